"""What of the machine's files a program may see: the standard library, time zones, two devices.

No installed package, since one of them may hold the answers; no tests and no configuration of the interpreter; no
shared library, since the server has loaded those that the standard library needs.
"""

from __future__ import annotations

import importlib
import os
import sys
import zoneinfo
from contextlib import suppress
from dataclasses import dataclass

_BESIDE = ("lib-dynload", "__pycache__")  # of modules, in their folder
_LINKED = (  # modules that need shared libraries; without those of a display and of a terminal's input
    "_bz2 _ctypes _curses _curses_panel _dbm _decimal _gdbm _hashlib _lzma _sqlite3 _ssl _uuid _zstd math pyexpat zlib"
)
_WARM = (  # what programs often import
    "array bisect cmath collections.abc copy dataclasses datetime decimal enum fractions functools hashlib heapq "
    "itertools json math numbers operator random re statistics string struct tempfile textwrap time typing"
)


@dataclass(frozen=True)
class Library:
    """Files that may be read.

    Attributes:
        roots: absolute paths of folders and files.
        hidden: what may not be read although it lies below one of these folders.
        parts: what is left of the folders, entry by entry.
    """

    roots: list[str]
    hidden: list[str]
    parts: list[str]


def load() -> None:
    """Import what programs often import, and what needs shared libraries."""
    for name in [*_WARM.split(), *_LINKED.split()]:
        with suppress(ImportError, OSError):  # of libraries that the machine lacks
            importlib.import_module(name)


def find() -> Library:
    """The files of this interpreter, which `load` has been called in."""
    others = [os.devnull, "/dev/urandom", *zoneinfo.TZPATH]
    roots = {path for path in [*sys.path, *others] if os.path.isabs(path) and os.path.exists(path)}
    hidden: set[str] = set()
    parts = set(roots)
    for folder in sorted(path for path in sys.path if os.path.isdir(path) and not _is_below(path, roots)):
        parts.remove(folder)
        for name in os.listdir(folder):
            (parts if _belongs(name) else hidden).add(os.path.join(folder, name))
    return Library(*(sorted(paths) for paths in (roots, hidden, parts)))


def _belongs(name: str) -> bool:
    """Whether an entry of the library's folder is part of it."""
    module = name.partition(".")[0]
    return module in sys.stdlib_module_names or name in _BESIDE or module.startswith("_sysconfigdata_")


def _is_below(path: str, roots: set[str]) -> bool:
    return any(path.startswith(root + os.sep) for root in roots)
