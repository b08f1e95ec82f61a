"""Layer ``landlock``: this process can read the named files, write to one folder, and nothing else.

The functions raise OSError if the kernel refuses.
"""

from __future__ import annotations

import os
import struct

from . import syscalls

# the same numbers on all architectures
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_SOCK, _MAKE_BLOCK, _IOCTL_DEV = 1 << 6, 1 << 9, 1 << 11, 1 << 15
_FILE_RIGHTS = _READ_FILE | _WRITE_FILE
_FILE_SYSTEM = {1: 13, 2: 14, 3: 15, 4: 15}  # kinds of access by version of the interface; 16 in later ones


def version() -> int:
    """Version of the kernel's interface.

    Raises:
        OSError: the kernel has none.
    """
    syscalls.machine()
    return syscalls.syscall(_CREATE_RULESET, None, 0, _GET_VERSION)


def restrict(readable: list[str], folder: str | None) -> None:
    """Forbid this process all files but the ``readable`` ones and the writable ``folder``, for good.

    Also TCP and signals to others, if the kernel supports it. Needs `syscalls.PR_SET_NO_NEW_PRIVS`.
    """
    known = version()
    all_rights = (1 << _FILE_SYSTEM.get(known, 16)) - 1
    tcp = 3 if known >= 4 else 0
    scopes = 3 if known >= 6 else 0  # abstract sockets, signals
    attributes = struct.pack("=QQQ", all_rights, tcp, scopes)
    ruleset = syscalls.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    for path in readable:
        _allow(ruleset, path, _READ_FILE | _READ_DIR)
    _allow(ruleset, os.devnull, _FILE_RIGHTS)
    if folder is not None:
        _allow(ruleset, folder, all_rights & ~(_EXECUTE | _MAKE_CHAR | _MAKE_SOCK | _MAKE_BLOCK | _IOCTL_DEV))
    syscalls.syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what can't be opened needs no permission
    rights = access if os.path.isdir(path) else access & _FILE_RIGHTS
    syscalls.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    os.close(place)
