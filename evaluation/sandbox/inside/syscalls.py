"""Linux system calls that the standard library of Python 3.10 does not wrap; they raise OSError if they fail."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 36, 38


def machine() -> str:
    """The architecture of this interpreter's system calls.

    Raises:
        OSError: not Linux, or the call numbers are not known here.
    """
    name = {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine())
    if not sys.platform.startswith("linux"):
        raise OSError("only Linux has it")
    if name not in ("x86_64", "aarch64") or sys.maxsize < 2**32:
        raise OSError(f"only known for 64-bit x86_64 and aarch64, not for {name}")
    return name


def syscall(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make a system call by its number."""
    # C takes variadic integers as int, the kernel as long
    given = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *given))


def prctl(option: int, *arguments: int | ctypes.Array[ctypes.c_char]) -> None:
    """Change an attribute of this process in the kernel."""
    given = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    given += [ctypes.c_long(0)] * (4 - len(given))
    _checked(_libc.prctl(ctypes.c_int(option), *given))


def unshare(flags: int) -> None:
    """Move this process (its children, for process ids) into new namespaces."""
    _checked(_libc.unshare(ctypes.c_int(flags)))


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """Mount a file system, or change a mount."""
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    _checked(_libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]))


def unmount(target: str, flags: int) -> None:
    """Unmount a file system."""
    _checked(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)))


def drop_capabilities() -> None:
    """Drop all capabilities, also those of the superuser."""
    header = ctypes.create_string_buffer(0x20080522.to_bytes(4, sys.byteorder) + bytes(4), 8)  # version 3, this process
    _checked(_libc.capset(header, ctypes.create_string_buffer(24)))


def _checked(result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
