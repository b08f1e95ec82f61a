"""Layer ``namespaces``: an own file tree, own process ids, no network, as a user who is nobody outside.

The tree has the `library`, read-only, and nothing else: no home, no ``/proc``. Each program gets a folder in memory of
its own and a process number space of its own, which dies with it.
"""

from __future__ import annotations

import os
import struct

from . import kernel
from .library import Library

WORK = "/cache-zoo-work"
"""Where the folder of a program is mounted."""

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 32, 1 << 14, 1 << 18
_MNT_DETACH = 2
# the same numbers on all architectures
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE, _O_CLOEXEC = -100, 0x1000, 0x8000, 0o2000000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4
_READ_ONLY = struct.pack("=QQQQ", 1 | 2, 0, 0, 0)  # MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID
_BASE = "/tmp"  # hidden by the new tree while that is built; any folder that is everywhere would do


def enter(library: Library) -> None:
    """Move this process into the tree; its next child is the first process of the new number space.

    Args:
        library: what the tree has.

    Raises:
        OSError: something of it is not possible here.
    """
    pivot_root = _PIVOT_ROOT[kernel.machine()]
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(_NEWUSER | _NEWNS | _NEWPID | _NEWNET | _NEWIPC | _NEWUTS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    kernel.mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    # copies are taken before anything is hidden
    trees = [(path, os.path.isdir(path), _copy(path)) for path in library.roots]
    nothing = [_copy(os.devnull) for path in library.hidden if not os.path.isdir(path)]
    kernel.mount("tmpfs", _BASE, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
    for path, is_folder, tree in trees:
        _attach(tree, _BASE + path, is_folder)
    for path in library.hidden:
        if os.path.isdir(_BASE + path):
            kernel.mount("tmpfs", _BASE + path, "tmpfs", _MS_RDONLY | _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
        else:
            _put(nothing.pop(), _BASE + path)
    os.mkdir(_BASE + WORK)
    os.chdir(_BASE)
    kernel.syscall(pivot_root, b".", b".")
    kernel.unmount(".", _MNT_DETACH)
    os.chdir("/")
    kernel.mount("none", "/", None, _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)


def fresh_folder(size: int) -> None:
    """Mount an empty folder of at most ``size`` bytes, and give the next child a number space of its own.

    Raises:
        OSError: it failed.
    """
    kernel.unshare(_NEWNS | _NEWPID | _NEWIPC)
    kernel.mount("tmpfs", WORK, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, f"mode=700,size={size},nr_inodes=4096")


def _copy(path: str) -> int:
    """A read-only copy of the mounts at and below a path, as a descriptor."""
    flags = _OPEN_TREE_CLONE | _O_CLOEXEC | _AT_RECURSIVE
    tree = kernel.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags)
    kernel.syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, _READ_ONLY, len(_READ_ONLY))
    return tree


def _attach(tree: int, target: str, is_folder: bool) -> None:
    if not os.path.exists(target):  # else it lies in a tree that is there already
        os.makedirs(target if is_folder else os.path.dirname(target), exist_ok=True)
        if not is_folder:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        _put(tree, target)
    else:
        os.close(tree)


def _put(tree: int, target: str) -> None:
    kernel.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    os.close(tree)
