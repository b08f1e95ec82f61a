"""Layer ``landlock``: of the file system this process can read what is named, write one folder, and nothing else."""

from __future__ import annotations

import os
import struct

from . import kernel

# the same numbers on all architectures
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_SOCK, _MAKE_BLOCK, _IOCTL_DEV = 1 << 6, 1 << 9, 1 << 11, 1 << 15
_FILE_RIGHTS = _READ_FILE | _WRITE_FILE
_FILE_SYSTEM = {1: 13, 2: 14, 3: 15, 4: 15}  # how many kinds of access each version of the interface knows; later 16


def version() -> int:
    """Version of the kernel's interface.

    Raises:
        OSError: there is none.
    """
    kernel.machine()
    return kernel.syscall(_CREATE_RULESET, None, 0, _GET_VERSION)


def restrict(readable: list[str], folder: str | None) -> None:
    """Keep this process, for good, from all files but these; from TCP and from signals to others, where known.

    Needs `kernel.PR_SET_NO_NEW_PRIVS`.

    Args:
        readable: absolute paths that may be read.
        folder: what may be written, if anything.

    Raises:
        OSError: it failed.
    """
    known = version()
    everything = (1 << _FILE_SYSTEM.get(known, 16)) - 1
    tcp = 3 if known >= 4 else 0
    scopes = 3 if known >= 6 else 0  # abstract sockets, signals
    attributes = struct.pack("=QQQ", everything, tcp, scopes)
    ruleset = kernel.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    for path in readable:
        _allow(ruleset, path, _READ_FILE | _READ_DIR)
    _allow(ruleset, os.devnull, _FILE_RIGHTS)
    if folder is not None:
        _allow(ruleset, folder, everything & ~(_EXECUTE | _MAKE_CHAR | _MAKE_SOCK | _MAKE_BLOCK | _IOCTL_DEV))
    kernel.syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what can't be opened needs no permission
    rights = access if os.path.isdir(path) else access & _FILE_RIGHTS
    kernel.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    os.close(place)
