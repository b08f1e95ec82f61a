"""Rows of a file as the table that lm-eval wants, whatever their columns hold."""

from __future__ import annotations

from typing import Any

from datasets import Dataset, Features, Json


def as_dataset(rows: list[dict[str, Any]]) -> Dataset:
    """A table of all columns; what a row lacks is None.

    Arrow gives a column one type. One that has several is kept as JSON, so that its values come out as they are; one
    that can't be kept at all, like texts with half a surrogate pair, is left out, and is missed only by a task that
    reads it.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    try:
        return Dataset.from_dict(columns)
    except Exception:  # Arrow has many
        features = {name: kind for name, values in columns.items() if (kind := _kind(name, values)) is not None}
    return Dataset.from_dict({name: columns[name] for name in features}, features=Features(features))


def _kind(name: str, values: list[Any]) -> Any:
    """What a column is kept as; None where it can't be."""
    for features in (None, Features({name: Json()})):
        try:
            return Dataset.from_dict({name: values}, features=features).features[name]
        except Exception:  # as above
            continue
    return None
