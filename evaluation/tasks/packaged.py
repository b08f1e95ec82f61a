"""Rows that come with the package, for the tasks of the embedded models."""

from __future__ import annotations

from typing import Any

from datasets import DatasetDict

from evaluation.tasks.arrow import as_dataset
from evaluation.tasks.jsonl import read_splits
from models.nano.data import ITEMS


def nano_gsm(**_: Any) -> DatasetDict:
    """Grade-school problems: 500 questions, and examples for prompts."""
    return _splits("gsm")


def nano_code(**_: Any) -> DatasetDict:
    """200 small functions; there are no examples."""
    return _splits("code")


def _splits(name: str) -> DatasetDict:
    splits = {"train": [], **read_splits(str(ITEMS / name), "test", {"train"}, {})}
    return DatasetDict({split: as_dataset(rows) for split, rows in splits.items()})
