"""Digests of the published rows of each task: runs are checked against these, not against what they say of themselves.

``python -m benchmarks.references DATA`` writes ``published_data.json`` beside this file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from evaluation.config.task_table import OWN_TASKS

FILE = Path(__file__).with_name("published_data.json")
_HEX_DIGITS = 32
"""Of SHA-256: 16 bytes."""


@dataclass(frozen=True)
class PublishedRows:
    """The published rows of a task: the digest of all (`evaluation.tasks.loading`), and of each (`row_digest`)."""

    sha256: str
    rows: tuple[str, ...]

    def has(self, task: str, doc_id: int, doc: Mapping[str, Any]) -> bool:
        """Whether ``doc`` equals row ``doc_id`` of ``task`` in the columns that scoring reads."""
        needs = OWN_TASKS[task].needs
        return doc_id < len(self.rows) and set(needs) <= set(doc) and row_digest(doc, needs) == self.rows[doc_id]


def row_digest(doc: Mapping[str, Any], columns: Sequence[str]) -> str:
    """Digest of these columns of a row."""
    text = json.dumps({column: doc[column] for column in columns}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_HEX_DIGITS]


def published_rows(task: str) -> PublishedRows | None:
    """The published rows of ``task`` (``humaneval_instruct`` asks those of ``humaneval``); None if not known here."""
    return _all().get(task.removesuffix("_instruct")) if task in OWN_TASKS else None


@lru_cache(maxsize=1)
def _all() -> dict[str, PublishedRows]:
    found = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: PublishedRows(values["sha256"], tuple(values["rows"])) for name, values in found.items()}
