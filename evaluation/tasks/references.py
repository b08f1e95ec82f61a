"""The published questions of the tasks with a scorer, by digest, so that nobody's copy of them need be believed.

``references.json`` beside this file has the digests; ``python -m benchmarks.references DATA`` makes it anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from evaluation.tasks.scorers import SCORERS

FILE = Path(__file__).with_name("references.json")
_DIGITS = 32
"""Of SHA-256: 16 bytes."""


@dataclass(frozen=True)
class References:
    """The published questions of a task.

    Attributes:
        sha256: of all rows, as `evaluation.tasks.loading` takes it.
        rows: of each row what scoring reads, as `row_digest` takes it.
    """

    sha256: str
    rows: tuple[str, ...]

    def has(self, task: str, doc_id: int, doc: Mapping[str, Any]) -> bool:
        """Whether ``doc`` holds what scoring reads of the row ``doc_id`` of ``task``."""
        needs = SCORERS[task].needs
        return doc_id < len(self.rows) and set(needs) <= set(doc) and row_digest(doc, needs) == self.rows[doc_id]


def row_digest(doc: Mapping[str, Any], columns: Sequence[str]) -> str:
    """Digest of these columns of a row."""
    text = json.dumps({column: doc[column] for column in columns}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def data_of(task: str) -> str:
    """The data that a task asks: those of ``humaneval_instruct`` are ``humaneval``."""
    return task.removesuffix("_instruct")


def references(task: str) -> References | None:
    """The published questions of ``task``; None where they are not known here."""
    return _all().get(data_of(task)) if task in SCORERS else None


@lru_cache(maxsize=1)
def _all() -> dict[str, References]:
    found = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: References(values["sha256"], tuple(values["rows"])) for name, values in found.items()}
