"""Reading published data files in place of the hub, with errors that name file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cache_zoo import UsageError
from cache_zoo.errors import suggest


def read_splits(path: str, asked: str, others: set[str], columns: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
    """Rows of the splits that are there.

    Args:
        path: a folder with ``test.jsonl`` and so on, or the file of the split that is asked; other splits are then
            looked for beside it.
        asked: the split that is evaluated; it must be there.
        others: splits to read where they are there.
        columns: what every row must have.

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


def read_rows(file: Path, columns: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The JSON objects of a file, one per line; empty lines are passed over.

    Raises:
        UsageError: not JSON, not an object, without one of ``columns``, or no row at all.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} can't be read as text: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(f"{file}, line {number} is not valid JSON: {error}") from error
        if not isinstance(row, dict):
            raise UsageError(f"{file}, line {number} must hold a JSON object, not {type(row).__name__}")
        for column in columns:
            if column not in row:
                raise UsageError(f"{file}, line {number} has no '{column}'; its columns are {', '.join(row)}")
            if not isinstance(row[column], str):
                raise UsageError(f"{file}, line {number}: '{column}' must be text, not {row[column]!r}")
        rows.append(row)
    if not rows:
        raise UsageError(f"{file} is empty")
    return rows


def _missing(given: Path) -> str:
    message = f"dataset.path {given} does not exist"
    if given.parent.is_dir():
        near = suggest(given.name, [path.name for path in given.parent.iterdir()])
        if near.startswith("did you mean"):
            return f"{message}: {near.split('?')[0]}?"
    return message
