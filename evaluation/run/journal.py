"""What a run has answered so far: a line per batch, on disk before the next batch begins.

Each process has a file of its own, so that none waits for another. A run that was killed reads the files of all
processes, however many they were, and goes on with the batches that are in none of them. Each line ends with its own
digest; one that does not match, whatever damaged it, is as if it had not been written.
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

from evaluation.storage.files import as_json, write_text

_SEAL = "sha256"

Question = Sequence[Any]
"""Task, row, seed and digest of the prompt: what makes a question the same."""


class Journal:
    """The batches that are answered.

    Args:
        folder: where the files of all processes are; made when the first batch is written.
        rank: of this process.
        size: number of processes.
        fresh: pass over what is there.

    Attributes:
        total: questions to be answered, by all processes; `evaluation.run.batching` says so.
        answered: of them, by this process.
        tokens, seconds: of its answers in this session, as far as anything was generated.
    """

    def __init__(self, folder: Path, rank: int = 0, size: int = 1, fresh: bool = False) -> None:
        self._folder, self._fresh = folder, fresh
        self._own = folder / f"{rank}-of-{size}.jsonl"
        self._others = f"*-of-{size}.jsonl"
        self._first, self._alone = rank == 0, size == 1
        self._found: dict[str, dict[str, Any]] = {}
        self._session: dict[str, Any] | None = None
        self.total = self.answered = self.tokens = 0
        self.seconds = 0.0

    def open(self, session: dict[str, Any]) -> None:
        """Read what is there, and begin a session: the circumstances under which the next batches are answered.

        Warns:
            RuntimeWarning: a line or a file is damaged; its batches are answered again.
        """
        self._session = session
        if self._fresh:
            _remove(self._own)
            for file in set(self._folder.glob("*.jsonl")) - set(self._folder.glob(self._others)) if self._first else ():
                _remove(file)
            return
        for file in sorted(self._folder.glob("*.jsonl")):
            entries, problems = _read(file)
            for problem in problems:
                warnings.warn(f"{problem}; what it held is answered again", RuntimeWarning, stacklevel=2)
            for entry in entries:
                self._found[_key(entry["kind"], entry["questions"])] = entry
        _mend(self._own)

    def find(self, kind: str, questions: Sequence[Question]) -> dict[str, Any] | None:
        """What became of a batch of these questions, in an earlier session; None if it was not answered."""
        return self._found.get(_key(kind, questions))

    def add(self, kind: str, questions: Sequence[Question], outcome: dict[str, Any]) -> dict[str, Any]:
        """Keep what became of a batch, and return it with the circumstances."""
        entry = {"kind": kind, "questions": questions, "session": self._session, **outcome}
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._own.open("a", encoding="utf-8") as file:
            file.write(_sealed(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return entry

    def progress(self) -> dict[str, Any]:
        """How far the run is, for a status: questions, and tokens per second of this process in this session."""
        speed = self.tokens / self.seconds if self.tokens and self.seconds else None
        answered = self.answered if self._alone else count_answered(self._folder)
        return {"answered": answered, "total": self.total, "tokens_per_second": speed}


def count_answered(folder: Path) -> int:
    """Questions in the files of all processes."""
    entries = (entry for file in folder.glob("*.jsonl") for entry in _read(file)[0])
    batches = {_key(entry["kind"], entry["questions"]): len(entry["questions"]) for entry in entries}
    return sum(batches.values())


def _key(kind: str, questions: Sequence[Question]) -> str:
    return json.dumps([kind, questions])


def _sealed(entry: dict[str, Any]) -> str:
    """A line without its end: the entry, with its digest behind everything else."""
    text = as_json(entry, exact=True)
    return f'{text[:-1]}, "{_SEAL}": "{sha256(text.encode()).hexdigest()}"}}'


def _unsealed(line: bytes) -> dict[str, Any] | None:
    """The entry of a line; None where it is not as it was written."""
    try:
        entry = json.loads(line)
        seal = entry.pop(_SEAL)
        whole = isinstance(entry["kind"], str) and isinstance(entry["questions"], list)
        return entry if whole and sha256(as_json(entry, exact=True).encode()).hexdigest() == seal else None
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return None


def _read(file: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The whole lines of a file, and what is wrong with others; half a line at the end was never finished."""
    if not file.is_file():
        return [], [f"{file} is no plain file"]
    try:
        whole, _, _ = file.read_bytes().rpartition(b"\n")
    except OSError as error:
        return [], [f"{file} can't be read: {error.strerror}"]
    lines = [_unsealed(line) for line in whole.split(b"\n")] if whole else []
    problems = [f"{file}, line {number} is damaged" for number, entry in enumerate(lines, start=1) if entry is None]
    return [entry for entry in lines if entry is not None], problems


def _mend(file: Path) -> None:
    """Make a file such that lines can be added to it; what is damaged goes."""
    if not os.path.lexists(file):
        return
    entries, problems = _read(file)
    try:
        if not problems:
            with file.open("r+b") as opened:
                opened.truncate(file.read_bytes().rfind(b"\n") + 1)
            return
    except OSError:
        pass  # it can be read, but not written
    _remove(file)
    if entries:
        write_text(file, "".join(_sealed(entry) + "\n" for entry in entries))


def _remove(path: Path) -> None:
    """Remove whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
