"""The journal of a run: what it has answered so far, one line per batch, on disk before the next batch begins.

Each process writes a file of its own, so none waits for another. A resumed run reads the files of all processes,
however many there were, and runs the batches that are in none of them. Each line ends with its own digest; a line that
does not match its digest is ignored.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from evaluation.run.distributed import Processes
from evaluation.storage.files import as_json, write_text

_DIGEST_KEY = "sha256"

RequestKey = Sequence[Any]
"""Task, row, seed and digest of the prompt: what identifies a request in another session."""


class Journal:
    """The answered batches of a run.

    Args:
        folder: holds the files of all processes; made with the first batch.
        processes: those that share the work; each has a file.
        fresh: ignore and delete earlier batches.

    Attributes:
        session: the circumstances under which this process answers (`evaluation.run.provenance`).
    """

    def __init__(self, folder: Path, processes: Processes | None = None, fresh: bool = False) -> None:
        self.folder, self._processes, self._fresh = folder, processes or Processes(), fresh
        self._own_file = folder / f"{self._processes.rank}-of-{self._processes.world_size}.jsonl"
        self._entries: dict[str, dict[str, Any]] = {}
        self.session: dict[str, Any] | None = None

    def open(self, session: dict[str, Any]) -> None:
        """Read the batches of earlier sessions and begin a new session.

        Warns:
            RuntimeWarning: a line or a file is damaged; its batches are answered again.
        """
        self.session = session
        if self._fresh:
            _remove(self._own_file)
            if self._processes.is_main_process:
                same_launch = self.folder.glob(f"*-of-{self._processes.world_size}.jsonl")
                for file in set(self.folder.glob("*.jsonl")) - set(same_launch):
                    _remove(file)
            return
        for file in sorted(self.folder.glob("*.jsonl")):
            entries, problems = _read(file)
            for problem in problems:
                warnings.warn(f"{problem}; its batches are answered again", RuntimeWarning, stacklevel=2)
            for entry in entries:
                self._entries[_batch_key(entry["kind"], entry["questions"])] = entry
        _repair(self._own_file)

    def find(self, kind: str, requests: Sequence[RequestKey]) -> dict[str, Any] | None:
        """The entry of a batch that an earlier session answered, or None."""
        return self._entries.get(_batch_key(kind, requests))

    def add(self, kind: str, requests: Sequence[RequestKey], result: dict[str, Any]) -> None:
        """Write the result of a batch; it is on disk when this returns."""
        entry = {"kind": kind, "questions": requests, **result, "session": self.session}
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._own_file.open("a", encoding="utf-8") as file:
            file.write(_sign(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())


def count_answered(folder: Path) -> int:
    """Questions in the files of all processes."""
    entries = (entry for file in folder.glob("*.jsonl") for entry in _read(file)[0])
    sizes = {_batch_key(entry["kind"], entry["questions"]): len(entry["questions"]) for entry in entries}
    return sum(sizes.values())


def _batch_key(kind: str, requests: Sequence[RequestKey]) -> str:
    return json.dumps([kind, requests])


def _sign(entry: dict[str, Any]) -> str:
    """An entry as a line without its end, the digest as its last key."""
    text = as_json(entry, exact=True)
    return f'{text[:-1]}, "{_DIGEST_KEY}": "{sha256(text.encode()).hexdigest()}"}}'


def _verify(line: bytes) -> dict[str, Any] | None:
    """The entry of a line, or None if it does not match its digest."""
    try:
        entry = json.loads(line)
        digest = entry.pop(_DIGEST_KEY)
        valid = isinstance(entry["kind"], str) and isinstance(entry["questions"], list)
        return entry if valid and sha256(as_json(entry, exact=True).encode()).hexdigest() == digest else None
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return None


def _read(file: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The entries of a file and its problems; an unfinished last line is ignored."""
    if not file.is_file():
        return [], [f"{file} is not a plain file"]
    try:
        finished, _, _ = file.read_bytes().rpartition(b"\n")
    except OSError as error:
        return [], [f"{file} cannot be read: {error.strerror}"]
    entries = [_verify(line) for line in finished.split(b"\n")] if finished else []
    problems = [f"{file}, line {number} is damaged" for number, entry in enumerate(entries, start=1) if entry is None]
    return [entry for entry in entries if entry is not None], problems


def _repair(file: Path) -> None:
    """Remove damaged lines and an unfinished last line, so that lines can be appended."""
    if not os.path.lexists(file):
        return
    entries, problems = _read(file)
    try:
        if not problems:
            with file.open("r+b") as opened:
                opened.truncate(file.read_bytes().rfind(b"\n") + 1)
            return
    except OSError:
        pass  # readable, but not writable: replaced below
    _remove(file)
    if entries:
        write_text(file, "".join(_sign(entry) + "\n" for entry in entries))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
