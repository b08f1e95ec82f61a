"""Right programs of unusual style with tests that they pass: those in ``odd/``, and some that editors would change.

In a file, ``=== NAME`` begins a program, and ``---`` its tests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Odd:
    """A program that must pass its tests."""

    name: str
    program: str
    tests: str


def _read(file: Path) -> list[Odd]:
    parts = re.split(r"^=== (.*)\n", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [Odd(name, *text.split("---\n")) for name, text in pairs]


PROGRAMS = [
    *(program for file in sorted((Path(__file__).parent / "odd").glob("*.txt")) for program in _read(file)),
    Odd("a byte order mark", "\ufeffdef f(x): return x", "assert f(1) == 1"),
    Odd("a byte order mark before the tests", "def f(x): return x", "\ufeffassert f(1) == 1"),
    Odd("line ends of Windows", "def f(x):\r\n    s = '''a\r\nb'''\r\n    return s\r\n", "assert f(1) == 'a\\nb'"),
    Odd("line ends of old Macs", "def f(x):\r    return x\r", "assert f(1) == 1"),
    Odd("tabs and form feeds", "\fdef f(x):\n\tif x:\n\t\treturn 1\n\treturn 2", "assert f(0) == 2"),
]
