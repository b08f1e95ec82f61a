"""Published data files in place of the hub: read them, and check the columns of their rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from keyword import iskeyword
from pathlib import Path
from typing import Any

from cache_zoo import UsageError
from cache_zoo.errors import is_utf8, nearest, short, shown
from evaluation.storage.readers import FileLimits, read_json_lines
from evaluation.tasks.programs.statements import parsed

LIMITS = FileLimits(lines=5_000_000, line_bytes=64 << 20, file_bytes=1 << 30, trusted=True)
"""A book in the longest contexts has 4 MB; a small gzip file may unpack to any size."""
MAX_SOURCE_CHARACTERS = 200_000
"""Of a program; the longest tests of the benchmarks have 6,000."""
_MAX_LISTED_FILES = 10

Problem = Callable[[Mapping[str, Any]], str | None]
"""Why a row with well-formed columns can't be asked or scored, as the end of a sentence; None if it can."""


def read_splits(
    path: str, asked: str, others: set[str], columns: Mapping[str, type], problem: Problem | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Rows by split.

    Args:
        path: a folder with ``test.jsonl`` and so on, or the file of the split ``asked``; the others are then looked for
            beside it.
        asked: the split to evaluate, which must exist.
        others: splits to read if they exist.
        columns, problem: of every row (see `check_row`).

    Raises:
        UsageError: a missing or malformed file.
    """
    given = _existing_path(path)
    files = {split: (given if given.is_dir() else given.parent) / f"{split}.jsonl" for split in {asked, *others}}
    if not given.is_dir():
        files[asked] = given
    elif not os.path.lexists(files[asked]):
        raise UsageError(f"dataset.path {given} has no {asked}.jsonl; it holds {_listed(given, f'{asked}.jsonl')}")
    return {
        split: read_rows(file, columns, problem) for split, file in files.items() if split == asked or file.is_file()
    }


def read_rows(
    file: Path, columns: Mapping[str, type] | None = None, problem: Problem | None = None
) -> list[dict[str, Any]]:
    """The JSON objects of a file, one per line; ``.gz`` files are unpacked. `check_row` checks each.

    Raises:
        UsageError: as in `read_json_lines`, or a row that `check_row` refuses.
    """
    rows = []
    for where, row in read_json_lines(file, LIMITS):
        check_row(where, row, columns or {}, problem)
        rows.append(row)
    return rows


def check_row(where: str, row: Mapping[str, Any], columns: Mapping[str, type], problem: Problem | None = None) -> None:
    """Check the columns that a task reads; others may hold anything.

    Args:
        where: file and line, for messages.
        row: of the data.
        columns: type by name: `str`, `NonBlank`, `PythonName`, `PythonSource`, `PythonSources`, or `list` for one or
            more texts.
        problem: checks the columns together.

    Raises:
        UsageError: a column is missing or of another type, or there is a problem.
    """
    for column, kind in columns.items():
        if column not in row:
            raise UsageError(f"{where} has no '{column}'; its columns are {short(', '.join(row)) or '(none)'}")
        if not _fits(row[column], kind):
            raise UsageError(f"{where}: '{column}' must be {_DESCRIPTIONS[kind]}, not {shown(row[column])}")
    try:
        found = problem(row) if problem else None
    except RecursionError:
        found = "its Python source is nested too deeply"
    if found:
        raise UsageError(f"{where}: {found}")


class NonBlank(str):
    """Type of a column: text that is not blank."""


class PythonName(str):
    """Type of a column: a Python name."""


class PythonSource(str):
    """Type of a column: Python source that compiles."""


class PythonSources(list[str]):
    """Type of a column: at least one text, each of them Python source."""


_DESCRIPTIONS: dict[type, str] = {
    str: "text",
    NonBlank: "text that is not blank",
    list: "a list of texts",
    PythonName: "the name of a function",
    PythonSource: f"Python source of at most {MAX_SOURCE_CHARACTERS:,} characters",
    PythonSources: f"a list of texts that are Python source of at most {MAX_SOURCE_CHARACTERS:,} characters",
}


def _fits(value: Any, kind: type) -> bool:
    if issubclass(kind, list):
        item_kind = PythonSource if kind is PythonSources else str
        return isinstance(value, list) and bool(value) and all(_fits(item, item_kind) for item in value)
    if not isinstance(value, str) or not is_utf8(value):
        return False
    if kind is PythonName:
        return value.isidentifier() and not iskeyword(value)
    if kind is NonBlank:  # a zero-width space is not visible
        return any(character.isprintable() and not character.isspace() for character in value)
    return kind is str or _compiles(value)


def _compiles(text: str) -> bool:
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        return len(text) <= MAX_SOURCE_CHARACTERS and bool(parsed(text))
    return False


def _existing_path(path: str) -> Path:
    try:
        given = Path(path).expanduser()
        given.stat()
        return given
    except (FileNotFoundError, NotADirectoryError):
        near = nearest(given.name, _names(given.parent)) if given.parent.is_dir() else None
        reason = "is a broken link" if given.is_symlink() else "does not exist"
        raise UsageError(f"dataset.path {given} {reason}{f': did you mean {near!r}?' if near else ''}") from None
    except RuntimeError:
        raise UsageError(f"dataset.path {shown(path)} names the home folder of an unknown user") from None
    except (OSError, ValueError) as error:  # a long name, a NUL
        reason = str(error.strerror if isinstance(error, OSError) else error)
        raise UsageError(f"dataset.path {shown(path)} is not a valid path: {reason}") from error


def _listed(folder: Path, wanted: str) -> str:
    """The files of a folder, and the one that may be meant, as the end of a sentence."""
    names = _names(folder)
    listed = ", ".join(names[:_MAX_LISTED_FILES]) or "nothing"
    listed += f" and {len(names) - _MAX_LISTED_FILES} more" if len(names) > _MAX_LISTED_FILES else ""
    near = nearest(wanted, [name for name in names if ".jsonl" in name])
    return f"{listed}: did you mean dataset.path={folder / near}?" if near else listed


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise UsageError(f"dataset.path {folder} can't be read: {error.strerror}") from error
