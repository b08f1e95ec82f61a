"""The files of a run folder, and atomic writes: no reader ever sees half a file."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import math
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cache_zoo.errors import require

if sys.platform != "win32":
    import fcntl

CONFIG, RESULTS, SAMPLES, STATUS = "config.yaml", "results.json", "samples.jsonl", "status.json"
RESCORED = "rescored.json"
ANSWERED = "answered"
"""Folder of the journal, present until the run is done (see `evaluation.run.journal`)."""


def now() -> str:
    """Date and time, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def read_status(folder: Path) -> dict[str, Any]:
    """The content of ``status.json``; empty if it is missing or unreadable."""
    try:
        content = json.loads((folder / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("status"), str) else {}


def write_status(file: Path, status: str, **more: Any) -> None:
    """Write a status with its date."""
    write_text(file, as_json({"status": status, "date": now(), **more}) + "\n")


def as_json(value: Any, indent: int | None = None, exact: bool = False) -> str:
    """``value`` as standard JSON, whatever texts and numbers it holds.

    Lone surrogates are escaped. NaN and infinity, which JSON lacks, become null (see `not_finite`).

    Args:
        value: plain data and records; other objects are written as their `str`.
        indent: as in `json.dumps`.
        exact: for files that only this program reads: keep NaN and infinity, write dataclasses as objects.
    """
    text = json.dumps(_plain(value, exact), indent=indent, ensure_ascii=False, allow_nan=exact)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def not_finite(value: Any, name: str = "") -> list[str]:
    """The paths in ``value`` to NaN or infinity, as ``results.task.metric``."""
    if isinstance(value, Mapping):
        parts = [(f"{name}.{key}" if name else str(key), inner) for key, inner in value.items()]
        return [path for part, inner in parts for path in not_finite(inner, part)]
    if isinstance(value, list | tuple):
        return [path for number, inner in enumerate(value) for path in not_finite(inner, f"{name}[{number}]")]
    return [name] if isinstance(value, float) and not math.isfinite(value) else []


def _plain(value: Any, exact: bool) -> Any:
    """``value`` in JSON's types; numbers of numpy and torch become numbers."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): _plain(inner, exact) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, exact) for inner in value]
    if isinstance(value, float):
        return value if exact or math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, BaseModel) or (exact and is_dataclass(value) and not isinstance(value, type)):
        return _plain(vars(value), exact)
    try:
        return _plain(value.item(), exact)
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return str(value)


def write_text(path: Path, text: str) -> None:
    """Replace the content of ``path`` by ``text`` atomically, and delete what killed writers left behind."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        _remove_abandoned(temporary)
    with _temporary_file(path) as temporary:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def write_status_in_place(file: Path, status: str, **more: Any) -> None:
    """Overwrite the old status, for a disk without room for a second file.

    Raises:
        OSError: the old status is missing or shorter than the new one.
    """
    content = as_json({"status": status, "date": now(), **more}).encode()
    with file.open("r+b", buffering=0) as opened:
        room = os.fstat(opened.fileno()).st_size - 1
        if len(content) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        opened.write(content.ljust(room) + b"\n")  # one write, so that no reader sees half of it


@contextlib.contextmanager
def _temporary_file(path: Path) -> Iterator[Path]:
    """A file beside ``path`` with a unique name, also on a shared disk.

    It is locked while in use. The system releases the lock of a process that ends, so others can tell an abandoned file
    from one that is being written.
    """
    while True:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        try:
            if sys.platform == "win32":  # it has no such locks, and cannot replace a file by an open one
                os.close(descriptor)
                descriptor = -1
            else:
                with contextlib.suppress(
                    OSError
                ):  # a file system without locks: no other process removes the file then
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not temporary.exists():  # another process removed it as abandoned before it was locked
                continue
            yield temporary
            return
        finally:
            temporary.unlink(missing_ok=True)
            if descriptor >= 0:
                os.close(descriptor)


def _remove_abandoned(temporary: Path) -> None:
    """Remove a temporary file unless a living process writes it."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(temporary, os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def check_place(path: Path) -> None:
    """Raise `UsageError` unless `write_text` can write ``path``: its folder exists, and it is no link or device."""
    require(os.path.isdir(path.parent), f"{path} can't be written: there is no folder {path.parent}")
    require(not os.path.islink(path), f"{path} can't be written: it is a link")
    require(os.path.isfile(path) or not os.path.lexists(path), f"{path} can't be written: it is not a plain file")
    require(os.access(path.parent, os.W_OK), f"{path} can't be written: {path.parent} is read-only")
