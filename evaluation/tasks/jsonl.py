"""Reading published data files in place of the hub, with errors that name file and line."""

from __future__ import annotations

import ast
import gzip
import json
import warnings
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from keyword import iskeyword
from pathlib import Path
from typing import Any, BinaryIO

from cache_zoo import UsageError
from cache_zoo.errors import is_utf8, nearest, short, shown
from evaluation.storage.plain import open_plain, refuse_constant

MOST_LINE = 64 << 20
"""Bytes of one row; a book in the longest contexts has 4 MB."""
MOST_BYTES = 1 << 30
"""Bytes of a file, unpacked; a file packed to the size of a picture may unpack to any size."""
MOST_LINES = 5_000_000
MOST_SOURCE = 200_000
"""Characters of a program; the longest tests of the benchmarks have 6,000."""
_SHOWN = 10  # names of a folder

Problem = Callable[[Mapping[str, Any]], str | None]
"""Why a row whose columns are well-formed can't be asked or scored, as the end of a sentence; None where it can."""


def read_splits(
    path: str, asked: str, others: set[str], columns: Mapping[str, type], problem: Problem | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Rows of the splits that are there.

    Args:
        path: a folder with ``test.jsonl`` and so on, or the file of the split that is asked; other splits are then
            looked for beside it.
        asked: the split that is evaluated; it must be there.
        others: splits to read where they are there.
        columns, problem: of every row (see `check_row`).

    Raises:
        UsageError: a missing or malformed file.
    """
    given = _expanded(path)
    wanted = f"{asked}.jsonl"
    if _is_there(given) and given.is_dir():
        there = sorted(file.name for file in _listed(given))
        if wanted not in there:
            listed = ", ".join(there[:_SHOWN]) + (f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else "")
            near = nearest(wanted, [name for name in there if ".jsonl" in name])
            meant = f": did you mean dataset.path={given / near}?" if near else ""
            raise UsageError(f"dataset.path {given} has no {wanted}; it holds {listed or 'nothing'}{meant}")
        files = {split: given / f"{split}.jsonl" for split in {asked, *others}}
    elif _is_there(given):
        files = {split: given.parent / f"{split}.jsonl" for split in others}
        files[asked] = given
    else:
        raise UsageError(_missing(given))
    return {
        split: read_rows(file, columns, problem) for split, file in files.items() if split == asked or file.is_file()
    }


def read_rows(
    file: Path, columns: Mapping[str, type] | None = None, problem: Problem | None = None
) -> list[dict[str, Any]]:
    """The JSON objects of a file, one per line; empty lines are passed over.

    Args:
        file: UTF-8; one whose name ends in ``.gz`` is unpacked.
        columns, problem: of every row (see `check_row`).

    Raises:
        UsageError: no plain file, not UTF-8, not JSON, not an object, too large, a row that `check_row` refuses, or no
            row at all.
    """
    rows: list[dict[str, Any]] = []
    with _opened(file) as content:
        for number, line in enumerate(_lines(file, content), start=1):
            where = f"{file}, line {number}"
            row = _parsed(where, line.removeprefix(BOM_UTF8) if number == 1 else line)
            if row is None:
                continue
            check_row(where, row, columns or {}, problem)
            rows.append(row)
    if not rows:
        raise UsageError(f"{file} is empty: it must hold a JSON object per line")
    return rows


def check_row(where: str, row: Mapping[str, Any], columns: Mapping[str, type], problem: Problem | None = None) -> None:
    """Check what a row must have; other columns may hold anything.

    Args:
        where: file and line, for messages.
        row: of the data.
        columns: type by name: `str`; `Filled`; `list` for texts, one at least; `Name`, `Source`, `Sources`.
        problem: looks at the columns together.

    Raises:
        UsageError: a column is missing or of another type, or there is a problem.
    """
    for column, kind in columns.items():
        if column not in row:
            raise UsageError(f"{where} has no '{column}'; its columns are {short(', '.join(row)) or '(none)'}")
        if not _fits(row[column], kind):
            raise UsageError(f"{where}: '{column}' must be {_WANTED[kind]}, not {shown(row[column])}")
    try:
        found = problem(row) if problem else None
    except RecursionError:
        found = "its Python source is nested too deeply"
    if found:
        raise UsageError(f"{where}: {found}")


class Filled(str):
    """A column with a text that is more than white space."""


class Name(str):
    """A column with a name of Python."""


class Source(str):
    """A column with Python source, which nothing would pass if it did not compile."""


class Sources(list[str]):
    """A column with texts, one at least, that are each Python source."""


_WANTED: dict[type, str] = {
    str: "text",
    Filled: "text that is not blank",
    list: "a list of texts",
    Name: "the name of a function",
    Source: f"Python source of at most {MOST_SOURCE:,} characters",
    Sources: f"a list of texts that are Python source of at most {MOST_SOURCE:,} characters",
}


def _fits(value: Any, kind: type) -> bool:
    if issubclass(kind, list):
        kinds = Source if kind is Sources else str
        return isinstance(value, list) and bool(value) and all(_fits(item, kinds) for item in value)
    if not isinstance(value, str) or not is_utf8(value):
        return False
    if kind is Name:
        return value.isidentifier() and not iskeyword(value)
    return is_filled(value) if kind is Filled else kind is str or _compiles(value)


def is_filled(text: str) -> bool:
    """Whether a text shows anything: neither white space nor characters without a shape, such as a zero-width space."""
    return any(one.isprintable() and not one.isspace() for one in text)


def _compiles(text: str) -> bool:
    if len(text) > MOST_SOURCE:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes, and the like
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"dataset.path {shown(path)} names the home folder of a user who is not known") from error


def _is_there(path: Path) -> bool:
    unusable = f"dataset.path {shown(str(path))} is no name of a file or folder"
    if "\0" in str(path):
        raise UsageError(f"{unusable}: it has a NUL")
    try:
        return path.exists()
    except OSError as error:  # a name that is too long
        raise UsageError(f"{unusable}: {error.strerror}") from error


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise UsageError(f"dataset.path {folder} can't be read: {error.strerror}") from error


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """A plain file, unpacked."""
    with open_plain(file, instead="; give a .jsonl file with a JSON object per line") as plain:
        yield gzip.GzipFile(fileobj=plain) if _is_packed(file) else plain  # type: ignore[misc]


def _is_packed(file: Path) -> bool:
    return file.suffix.lower() == ".gz"


def _lines(file: Path, content: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, as long as it is no larger than data are."""
    size = 0
    for number in range(1, MOST_LINES + 2):
        try:
            line = content.readline(MOST_LINE + 1)
        except (OSError, EOFError, zlib.error) as error:
            what = "unpacked" if _is_packed(file) else "read"
            raise UsageError(f"{file} can't be {what}: {error}") from error
        if not line:
            return
        size += len(line)
        if len(line) > MOST_LINE:
            raise UsageError(f"{file}, line {number} has more than {MOST_LINE >> 20} MiB, which no question needs")
        if size > MOST_BYTES or number > MOST_LINES:
            raise UsageError(f"{file} has more than {MOST_BYTES >> 20} MiB or {MOST_LINES:,} lines; give a part of it")
        yield line


def _parsed(where: str, line: bytes) -> dict[str, Any] | None:
    """The object on a line; None of an empty line."""
    try:
        text = line.decode("utf-8")
        if not text.strip():
            return None
        row = json.loads(text, parse_constant=refuse_constant)
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise UsageError(f"{where} is not usable: its JSON is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise UsageError(f"{where} is not valid JSON: {error.msg} in column {error.pos + 1}") from error
    except ValueError as error:  # a number that JSON lacks, or of more digits than Python reads
        raise UsageError(f"{where} is not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise UsageError(f"{where} must hold a JSON object, not {type(row).__name__}")
    return row


def _missing(given: Path) -> str:
    if given.is_symlink():
        return f"dataset.path {given} is a link that leads nowhere"
    message = f"dataset.path {given} does not exist"
    near = nearest(given.name, [path.name for path in _listed(given.parent)]) if given.parent.is_dir() else None
    return f"{message}: did you mean '{near}'?" if near else message
