"""What a run has answered so far: a line per batch, on disk before the next batch begins.

Each process has a file of its own, so that none waits for another. A run that was killed reads the files of all
processes, however many they were, and goes on with the batches that are in none of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
        total: questions to be answered, by all processes; `evaluation.answering` says so.
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
        """Read what is there, and begin a session: the circumstances under which the next batches are answered."""
        self._session = session
        if self._fresh:
            self._own.unlink(missing_ok=True)
            for file in set(self._folder.glob("*.jsonl")) - set(self._folder.glob(self._others)) if self._first else ():
                file.unlink(missing_ok=True)
            return
        for file in sorted(self._folder.glob("*.jsonl")):
            for entry in _entries(file):
                self._found[_key(entry["kind"], entry["questions"])] = entry
        _cut_half_a_line(self._own)

    def find(self, kind: str, questions: Sequence[Question]) -> dict[str, Any] | None:
        """What became of a batch of these questions, in an earlier session; None if it was not answered."""
        return self._found.get(_key(kind, questions))

    def add(self, kind: str, questions: Sequence[Question], outcome: dict[str, Any]) -> dict[str, Any]:
        """Keep what became of a batch, and return it with the circumstances."""
        entry = {"kind": kind, "questions": questions, "session": self._session, **outcome}
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._own.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
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
    entries = (entry for file in folder.glob("*.jsonl") for entry in _entries(file))
    batches = {_key(entry["kind"], entry["questions"]): len(entry["questions"]) for entry in entries}
    return sum(batches.values())


def _key(kind: str, questions: Sequence[Question]) -> str:
    return json.dumps([kind, questions])


def _entries(file: Path) -> list[dict[str, Any]]:
    """The whole lines; one that a kill cut short is as if it had not been begun."""
    whole, _, _ = file.read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in whole.split(b"\n") if line]


def _cut_half_a_line(file: Path) -> None:
    if file.is_file():
        content = file.read_bytes()
        with file.open("r+b") as opened:
            opened.truncate(content.rfind(b"\n") + 1)
