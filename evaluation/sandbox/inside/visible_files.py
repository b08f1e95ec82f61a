"""The files of the machine that a program can read: the standard library, time zones, two devices.

Installed packages are hidden, since one of them may hold the answers, as are tests and the interpreter's configuration.
Shared libraries are not needed: the server has loaded those of the standard library.
"""

from __future__ import annotations

import importlib
import os
import sys
import zoneinfo
from contextlib import suppress
from dataclasses import dataclass

_MODULE_FOLDERS = ("lib-dynload", "__pycache__")
_LINKED = (  # modules that need shared libraries, but for those of a display and of terminal input
    "_bz2 _ctypes _curses _curses_panel _dbm _decimal _gdbm _hashlib _lzma _sqlite3 _ssl _uuid _zstd math pyexpat zlib"
)
_FREQUENT = (  # modules that programs often import
    "array bisect cmath collections.abc copy dataclasses datetime decimal enum fractions functools hashlib heapq "
    "itertools json math numbers operator random re statistics string struct tempfile textwrap time typing"
)


@dataclass(frozen=True)
class VisibleFiles:
    """Files that may be read.

    Attributes:
        roots: absolute paths of folders and files.
        hidden: what may not be read although it lies in one of these folders.
        parts: the visible rest of the folders, entry by entry.
    """

    roots: list[str]
    hidden: list[str]
    parts: list[str]


def preload() -> None:
    """Import modules that programs often import or that need shared libraries."""
    for name in [*_FREQUENT.split(), *_LINKED.split()]:
        with suppress(ImportError, OSError):  # the machine lacks a library
            importlib.import_module(name)


def find() -> VisibleFiles:
    """The visible files of this interpreter, after `preload`."""
    others = [os.devnull, "/dev/urandom", *zoneinfo.TZPATH]
    roots = {path for path in [*sys.path, *others] if os.path.isabs(path) and os.path.exists(path)}
    hidden: set[str] = set()
    parts = set(roots)
    for folder in sorted(path for path in sys.path if os.path.isdir(path) and not _is_below(path, roots)):
        parts.remove(folder)
        for name in os.listdir(folder):
            (parts if _is_standard(name) else hidden).add(os.path.join(folder, name))
    return VisibleFiles(*(sorted(paths) for paths in (roots, hidden, parts)))


def _is_standard(name: str) -> bool:
    """Whether an entry of the library's folder belongs to the standard library."""
    module = name.partition(".")[0]
    return module in sys.stdlib_module_names or name in _MODULE_FOLDERS or module.startswith("_sysconfigdata_")


def _is_below(path: str, roots: set[str]) -> bool:
    return any(path.startswith(root + os.sep) for root in roots)
