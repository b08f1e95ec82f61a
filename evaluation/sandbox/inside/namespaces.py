"""Layer ``namespaces``: a file tree and process ids of its own, no network, no rights outside.

The tree has the `visible_files`, read-only, and nothing else: no home, no ``/proc``. Each program gets a folder in
memory and a PID namespace of its own, which dies with it. The functions raise OSError if the kernel refuses.
"""

from __future__ import annotations

import os
import struct

from . import syscalls
from .visible_files import VisibleFiles

WORK = "/sandbox-work"
"""Mount point of a program's folder."""

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 32, 1 << 14, 1 << 18
_MNT_DETACH = 2
# the same numbers on all architectures
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE, _O_CLOEXEC = -100, 0x1000, 0x8000, 0o2000000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4
_READ_ONLY = struct.pack("=QQQQ", 1 | 2, 0, 0, 0)  # MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID
_BASE = "/tmp"  # any folder that always exists; the new tree hides it while it is built


def enter(files: VisibleFiles) -> None:
    """Move this process into a tree of ``files``; its next child is the first process of the new PID namespace."""
    pivot_root = _PIVOT_ROOT[syscalls.machine()]
    user, group = os.geteuid(), os.getegid()
    syscalls.unshare(_NEWUSER | _NEWNS | _NEWPID | _NEWNET | _NEWIPC | _NEWUTS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    syscalls.mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    # copied before anything is hidden
    trees = [(path, os.path.isdir(path), _copy(path)) for path in files.roots]
    covers = [_copy(os.devnull) for path in files.hidden if not os.path.isdir(path)]
    syscalls.mount("tmpfs", _BASE, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
    for path, is_folder, tree in trees:
        _attach(tree, _BASE + path, is_folder)
    for path in files.hidden:
        if os.path.isdir(_BASE + path):
            syscalls.mount("tmpfs", _BASE + path, "tmpfs", _MS_RDONLY | _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
        else:
            _move(covers.pop(), _BASE + path)
    os.mkdir(_BASE + WORK)
    os.chdir(_BASE)
    syscalls.syscall(pivot_root, b".", b".")
    syscalls.unmount(".", _MNT_DETACH)
    os.chdir("/")
    syscalls.mount("none", "/", None, _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)


def fresh_folder(size: int) -> None:
    """Mount an empty folder of at most ``size`` bytes, and give the next child a PID namespace of its own."""
    syscalls.unshare(_NEWNS | _NEWPID | _NEWIPC)
    syscalls.mount("tmpfs", WORK, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, f"mode=700,size={size},nr_inodes=4096")


def _copy(path: str) -> int:
    """A descriptor of a read-only copy of the mounts at and below a path."""
    flags = _OPEN_TREE_CLONE | _O_CLOEXEC | _AT_RECURSIVE
    tree = syscalls.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags)
    syscalls.syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, _READ_ONLY, len(_READ_ONLY))
    return tree


def _attach(tree: int, target: str, is_folder: bool) -> None:
    if not os.path.exists(target):  # else it lies in a tree attached before
        os.makedirs(target if is_folder else os.path.dirname(target), exist_ok=True)
        if not is_folder:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        _move(tree, target)
    else:
        os.close(tree)


def _move(tree: int, target: str) -> None:
    syscalls.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    os.close(tree)
