"""Run folders: the files in them, and writing and reading these so that no reader ever sees half a file."""

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
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cache_zoo.errors import require

if sys.platform != "win32":
    import fcntl

CONFIG, RESULTS, SAMPLES, STATUS = "config.yaml", "results.json", "samples.jsonl", "status.json"
RESCORED = "rescored.json"
ANSWERED = "answered"
"""Folder of the answers so far, there while a run is not done (see `evaluation.run.journal`)."""


def now() -> str:
    """Date and time, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def read_status(folder: Path) -> dict[str, Any]:
    """What ``status.json`` says; empty where there is none, or nothing that can be read."""
    try:
        content = json.loads((folder / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("status"), str) else {}


def write_status(file: Path, status: str, **more: Any) -> None:
    """Put a status with its date in ``file``."""
    write_text(file, as_json({"status": status, "date": now(), **more}) + "\n")


def as_json(value: Any, indent: int | None = None, exact: bool = False) -> str:
    """``value`` as JSON that every reader takes, whatever texts and numbers it holds.

    Half a surrogate is written as its escape. NaN and infinity, which JSON lacks, become null (see `not_finite`).

    Args:
        value: plain data; of what is not, the text.
        indent: as in `json.dumps`.
        exact: write NaN and infinity as Python reads them, for files that nothing else reads.
    """
    plain = _plain(value) if exact else _finite(_plain(value))
    text = json.dumps(plain, indent=indent, ensure_ascii=False, allow_nan=exact)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def not_finite(value: Any, name: str = "") -> list[str]:
    """The places in ``value`` that hold NaN or infinity, as ``results.task.metric``."""
    if isinstance(value, Mapping):
        return [
            place for key, inner in value.items() for place in not_finite(inner, f"{name}.{key}" if name else str(key))
        ]
    if isinstance(value, list | tuple):
        return [place for number, inner in enumerate(value) for place in not_finite(inner, f"{name}[{number}]")]
    return [name] if isinstance(value, float) and not math.isfinite(value) else []


def _plain(value: Any) -> Any:
    """``value`` in types that JSON has; numbers of numpy and torch as numbers."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    try:
        return _plain(value.item())
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_text(path: Path, text: str) -> None:
    """Put ``text`` in ``path`` in one step. What a kill left of earlier attempts goes."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        _remove_left(temporary)
    with _temporary(path) as temporary:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def write_status_in_place(file: Path, status: str, **more: Any) -> None:
    """As `write_status` where there is no room for another file: over the old status, which must not be shorter.

    Raises:
        OSError: it is shorter, or not there.
    """
    content = as_json({"status": status, "date": now(), **more}).encode()
    with file.open("r+b", buffering=0) as opened:
        room = os.fstat(opened.fileno()).st_size - 1
        if len(content) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        opened.write(content.ljust(room) + b"\n")  # in one write, so that nobody reads half of it


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A file beside ``path`` under a name that no other process has, also on a shared disk.

    It is locked as long as it is in use. The system takes the lock back from a process that ends, so that others can
    tell what a kill has left from what is being written.
    """
    while True:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        held = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        try:
            if sys.platform == "win32":  # which neither locks like this nor replaces by a file that is open
                os.close(held)
                held = -1
            else:
                with contextlib.suppress(OSError):  # a file system without locks; nobody removes it then
                    fcntl.flock(held, fcntl.LOCK_EX)
            if not temporary.exists():  # taken for a left one before it was locked
                continue
            yield temporary
            return
        finally:
            temporary.unlink(missing_ok=True)
            if held >= 0:
                os.close(held)


def _remove_left(temporary: Path) -> None:
    """Remove a temporary file unless the process that writes it is alive."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        held = os.open(temporary, os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.unlink(missing_ok=True)
        finally:
            os.close(held)


def check_place(path: Path) -> None:
    """Refuse a place where `write_text` could not put a file, or would put it where nobody said.

    Raises:
        UsageError: its folder is not there, or it is a folder, a link or another thing that is no plain file.
    """
    require(os.path.isdir(path.parent), f"{path} can't be written: there is no folder {path.parent}")
    require(not os.path.islink(path), f"{path} can't be written: it is a link")
    require(os.path.isfile(path) or not os.path.lexists(path), f"{path} can't be written: it is no plain file")
    require(os.access(path.parent, os.W_OK), f"{path} can't be written: {path.parent} is read-only")
