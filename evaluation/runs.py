"""Run folders: the files in them, and writing and reading these so that no reader ever sees half a file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cache_zoo.errors import require
from evaluation.data import read_rows

CONFIG, RESULTS, SAMPLES, STATUS = "config.yaml", "results.json", "samples.jsonl", "status.json"
RESCORED = "rescored.json"
ANSWERED = "answered"
"""Folder of the answers so far, there while a run is not done (see `evaluation.journal`)."""


def now() -> str:
    """Date and time, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def read_status(folder: Path) -> dict[str, Any]:
    """What ``status.json`` says; empty where there is none, or nothing that can be read."""
    try:
        content = json.loads((folder / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_status(file: Path, status: str, **more: Any) -> None:
    """Put a status with its date in ``file``."""
    write_text(file, json.dumps({"status": status, "date": now(), **more}) + "\n")


def write_text(path: Path, text: str) -> None:
    """Put ``text`` in ``path`` in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_place(path: Path) -> None:
    """Refuse a place where `write_text` could not put a file, or would put it where nobody said.

    Raises:
        UsageError: its folder is not there, or it is a folder, a link or another thing that is no plain file.
    """
    require(path.parent.is_dir(), f"{path} can't be written: there is no folder {path.parent}")
    require(not path.is_symlink(), f"{path} can't be written: it is a link")
    require(path.is_file() or not path.exists(), f"{path} can't be written: it is no plain file")
    require(os.access(path.parent, os.W_OK), f"{path} can't be written: {path.parent} is read-only")


def read_samples(folder: Path, columns: Mapping[str, type] | None = None) -> list[dict[str, Any]]:
    """The questions of a finished run: of ``samples.jsonl`` or, where a run is kept compressed, ``samples.jsonl.gz``.

    Args:
        folder: of the run.
        columns: what every question must have (see `evaluation.data.read_rows`).

    Raises:
        UsageError: neither file is there, or it is damaged.
    """
    plain, packed = folder / SAMPLES, folder / f"{SAMPLES}.gz"
    return read_rows(packed if packed.is_file() and not plain.is_file() else plain, columns)
