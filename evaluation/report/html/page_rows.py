"""Rows of the page: those of the leaderboard, with values that only the page shows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from cache_zoo.errors import require
from evaluation.config.differences import differing
from evaluation.config.identity import BASELINE, NEUTRAL
from evaluation.report.column_type import MISSING, Row
from evaluation.report.columns import grouped, plain_rows
from evaluation.report.descriptions import folder_link

_REQUIRED = ("model", "cache", "task", "status")
_PANEL = ("metric", "n_shot", "gen_length")
_CONDITIONS = ("batch_size", "seed", "dtype")
_DECODING = ("gen_length", "block_length", "num_transfer_tokens", "steps", "threshold")
LEFT_OUT = {
    key.removeprefix("generation."): value
    for key, value in NEUTRAL.items()
    if key.startswith("generation.") and value is not None and value is not False
}
"""Values that ``decoder_settings`` leaves out, without those that are off."""


def page_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """One dict per run, in the frame's order, with the columns of the leaderboard and these:

    - ``decoding``: the strategy, and those of its settings, batch, seed and dtype that differ between runs;
    - ``hardware``: the machine, and the version of torch where it differs between runs;
    - ``method``: cache, suffix and store with parameters; ``baseline``: whether it is a run without any of them;
    - ``panel``: runs whose scores may share a chart: model and dataset, and what scores depend on where it differs;
    - ``link``: address of the run folder; ``commit`` has a plus for uncommitted changes.

    Raises:
        UsageError: a required column is missing.
    """
    for key in _REQUIRED:
        require(key in frame, f"the leaderboard has no column '{key}'; there are {', '.join(map(str, frame.columns))}")
    rows = [_page_row(row) for row in plain_rows(frame)]
    settings = [decoding_settings(row) for row in rows]
    varied = differing([setting for setting in settings if any(value is not None for value in setting.values())])
    # runs without a score may not have run with the settings they were given
    measured = [row for row in rows if row["score"] is not None]
    conditions = [key for key in _CONDITIONS if _varies(key, measured)]
    pairs = grouped(rows, "model", "task")
    for row, setting in zip(rows, settings, strict=True):
        shown = {key: setting.get(key, LEFT_OUT.get(key)) for key in varied} | {key: row[key] for key in conditions}
        row["decoding"] = _joined(row["decoder"], pairs_text(shown))
        if row["torch"] and _varies("torch", measured):
            row["hardware"] = _joined(row["hardware"], f"torch {row['torch']}")
        panel = {key: row[key] for key in _PANEL if _varies(key, pairs[row["model"], row["task"]])}
        row["panel"] = " · ".join([row["model"], row["task"], *pairs_text(panel).split()])
    return rows


def decoding_settings(row: Row) -> dict[str, Any]:
    """Options of the decoding by name, from their columns and from ``decoder_settings``."""
    return {key: row[key] for key in _DECODING} | read_pairs(row["decoder_settings"])


def read_pairs(text: str | None) -> dict[str, Any]:
    """``kp=50 kr=2`` as a dict, numbers as numbers; words without ``=`` are left out."""
    split = (word.partition("=") for word in (text or "").split())
    return {key: _value(value) for key, equals, value in split if equals}


def pairs_text(values: Mapping[str, Any]) -> str:
    """A dict as ``kp=50 kr=2``, without None."""
    return " ".join(f"{key}={parameter_text(value)}" for key, value in values.items() if value is not None)


def parameter_text(value: Any) -> str:
    """A parameter's value as on the command line."""
    return "null" if value is None else format(value, "g") if isinstance(value, float) else str(value)


def _page_row(row: dict[str, Any]) -> dict[str, Any]:
    row |= {key: row[key] or MISSING for key in _REQUIRED}  # damaged runs lack them
    row["ranked"] = row["ranked"] is True
    row |= {key: row[key] or BASELINE[key] for key in ("suffix", "store")}
    row["baseline"] = all(row[key] == name for key, name in BASELINE.items())
    row["hardware"] = _joined(row["gpu"], row["machine"]) or row["device"]
    others = {key: row[key] for key in ("suffix", "store") if row[key] != BASELINE[key]}
    row["method"] = _joined(row["cache"], row["cache_parameters"], pairs_text(others), row["suffix_parameters"])
    row["commit"] = row["commit"] and row["commit"][:10] + ("+" if row["dirty"] else "")
    row["link"] = row["folder"] and f"{folder_link(row['folder'])}/"
    return row


def _varies(key: str, rows: list[dict[str, Any]]) -> bool:
    """Whether ``rows`` differ in ``key``, apart from those without it."""
    return len({row[key] for row in rows} - {None}) > 1


def _joined(*parts: str | None) -> str | None:
    return " ".join(part for part in parts if part) or None


def _value(text: str) -> Any:
    if text in ("null", "None"):
        return None
    if re.fullmatch(r"[-+]?\d{1,15}", text):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        return text
    return value if math.isfinite(value) else text
