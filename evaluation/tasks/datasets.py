"""Rows as lm-eval wants them: the embedded datasets, fixed few-shot examples, and JSON rows as an Arrow table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, Json

from evaluation.tasks.jsonl import read_splits
from models.nano.data import ITEMS

_SHOTS = Path(__file__).parent / "shots"  # its README.md has sources and licences


def nano_gsm(**_: Any) -> DatasetDict:
    """Grade-school problems: 500 questions, and few-shot examples."""
    return _embedded("gsm")


def nano_code(**_: Any) -> DatasetDict:
    """200 small functions; no few-shot examples."""
    return _embedded("code")


def _embedded(name: str) -> DatasetDict:
    splits = {"train": [], **read_splits(str(ITEMS / name), "test", {"train"}, {})}
    return DatasetDict({split: as_dataset(rows) for split, rows in splits.items()})


def minerva_shots() -> list[dict[str, Any]]:
    """Minerva's four worked problems: ``problem`` and ``solution``."""
    return _shots("minerva.jsonl")


def mbpp_shots() -> list[dict[str, Any]]:
    """Three problems of MBPP: ``text``, ``code`` and ``test_list``."""
    return _shots("mbpp.jsonl")


def _shots(name: str) -> list[dict[str, Any]]:
    lines = (_SHOTS / name).read_text(encoding="utf-8").split("\n")
    return [{**json.loads(line), "is_fewshot": True} for line in lines if line]


def as_dataset(rows: list[dict[str, Any]]) -> Dataset:
    """An Arrow table of all columns; None where a row lacks one.

    An Arrow column has one type. Columns of mixed types are stored as JSON, which keeps their values. Columns that fit
    neither, such as texts with half a surrogate pair, are dropped: only a task that reads one misses it.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    try:
        return Dataset.from_dict(columns)
    except Exception:  # Arrow raises many kinds
        features = {name: kind for name, values in columns.items() if (kind := _feature(name, values)) is not None}
    return Dataset.from_dict({name: columns[name] for name in features}, features=Features(features))


def _feature(name: str, values: list[Any]) -> Any:
    """The Arrow type of a column; None if it has none."""
    for features in (None, Features({name: Json()})):
        try:
            return Dataset.from_dict({name: values}, features=features).features[name]
        except Exception:  # as above
            continue
    return None
