"""Reading published data files in place of the hub, with errors that name file and line."""

from __future__ import annotations

import ast
import gzip
import json
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache_zoo import UsageError
from cache_zoo.errors import suggest


def read_splits(
    path: str, asked: str, others: set[str], columns: Mapping[str, type]
) -> dict[str, list[dict[str, Any]]]:
    """Rows of the splits that are there.

    Args:
        path: a folder with ``test.jsonl`` and so on, or the file of the split that is asked; other splits are then
            looked for beside it.
        asked: the split that is evaluated; it must be there.
        others: splits to read where they are there.
        columns: what every row must have (see `read_rows`).

    Raises:
        UsageError: a missing or malformed file.
    """
    given = Path(path).expanduser()
    if given.is_dir():
        files = {split: given / f"{split}.jsonl" for split in {asked, *others}}
        if not files[asked].is_file():
            there = sorted(file.name for file in given.iterdir())
            raise UsageError(f"dataset.path {given} has no {asked}.jsonl; it holds {', '.join(there) or 'nothing'}")
    elif given.is_file():
        files = {split: given.parent / f"{split}.jsonl" for split in others}
        files[asked] = given
    else:
        raise UsageError(_missing(given))
    return {split: read_rows(file, columns) for split, file in files.items() if file.is_file()}


def read_rows(file: Path, columns: Mapping[str, type] | None = None) -> list[dict[str, Any]]:
    """The JSON objects of a file, one per line; empty lines are passed over.

    Args:
        file: UTF-8; one whose name ends in ``.gz`` is unpacked.
        columns: what every row must have, and its type (see `check_row`).

    Raises:
        UsageError: not UTF-8, not JSON, not an object, a column missing or of another type, or no row at all.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror}") from error
    if file.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"{file} can't be unpacked: {error}") from error
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        where = f"{file}, line {number}"
        try:
            text = line.decode("utf-8")
            if not text.strip():
                continue
            row = json.loads(text)
        except UnicodeDecodeError as error:
            raise UsageError(f"{where} is not UTF-8: {error.reason} at byte {error.start}") from error
        except json.JSONDecodeError as error:
            raise UsageError(f"{where} is not valid JSON: {error}") from error
        if not isinstance(row, dict):
            raise UsageError(f"{where} must hold a JSON object, not {type(row).__name__}")
        check_row(where, row, columns or {})
        rows.append(row)
    if not rows:
        raise UsageError(f"{file} is empty")
    return rows


def check_row(where: str, row: Mapping[str, Any], columns: Mapping[str, type]) -> None:
    """Check what a row must have.

    Args:
        where: file and line, for messages.
        row: of the data.
        columns: type by name: `str`; `list` for texts, one at least; `Name`, `Source`, `Sources`.

    Raises:
        UsageError: a column is missing or of another type.
    """
    for column, kind in columns.items():
        if column not in row:
            raise UsageError(f"{where} has no '{column}'; its columns are {', '.join(row) or '(none)'}")
        if not _fits(row[column], kind):
            raise UsageError(f"{where}: '{column}' must be {_WANTED[kind]}, not {_short(row[column])}")


class Name(str):
    """A column with a name of Python."""


class Source(str):
    """A column with Python source, which nothing would pass if it did not compile."""


class Sources(list[str]):
    """A column with texts, one at least, that are each Python source."""


_WANTED: dict[type, str] = {
    str: "text",
    list: "a list of texts",
    Name: "the name of a function",
    Source: "Python source",
    Sources: "a list of texts that are Python source",
}


def _fits(value: Any, kind: type) -> bool:
    if issubclass(kind, list):
        kinds = Source if kind is Sources else str
        return isinstance(value, list) and bool(value) and all(_fits(item, kinds) for item in value)
    if not isinstance(value, str):
        return False
    return kind is str or (value.isidentifier() if kind is Name else _compiles(value))


def _compiles(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes, and the like
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _missing(given: Path) -> str:
    message = f"dataset.path {given} does not exist"
    if given.parent.is_dir():
        near = suggest(given.name, [path.name for path in given.parent.iterdir()])
        if near.startswith("did you mean"):
            return f"{message}: {near.split('?')[0]}?"
    return message
