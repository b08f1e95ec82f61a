"""The leaderboard's frame as plain rows: one value type per column, and what only the page says."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pandas as pd

from cache_zoo.errors import require, visible
from evaluation.config.identity import BASELINE
from evaluation.report.html.columns import COLUMNS, MISSING, Row

NEEDED = ("model", "cache", "task", "status")
NUMBERS = tuple(key for column in COLUMNS if column.form for key in (column.key, column.low, column.high) if key)
TEXTS = tuple(column.key for column in COLUMNS if not column.form and column.key not in ("decoding", "hardware"))
_MORE = ("cache", "cache_parameters", "decoder", "decoder_settings", "status", "note", "folder", "machine", "gpu")
_PANEL = ("metric", "n_shot", "gen_length")
_CONDITIONS = ("batch_size", "seed", "dtype")
_DECODING = ("gen_length", "block_length", "num_transfer_tokens", "steps", "threshold")


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """One dict per run, in the frame's order; what is missing is None.

    ``decoding`` is the strategy, and those of its settings, batch, seed and dtype that are not the same in all rows;
    ``hardware`` the machine in words, and torch where that is not the same. ``link`` leads to the run folder,
    ``commit`` has its plus. ``baseline`` says that a run is without a cache. ``panel`` names the runs whose scores may
    share a chart: model and dataset, and what else scores depend on where it is not the same in all runs of that pair.

    Raises:
        UsageError: a column is missing that every row needs.
    """
    for key in NEEDED:
        require(key in frame, f"the leaderboard has no column '{key}'; there are {', '.join(map(str, frame.columns))}")
    rows = [_row(values) for values in records(frame)]
    settings = [decoding_settings(row) for row in rows]
    begun = [setting for setting in settings if any(value is not None for value in setting.values())]
    varied = [key for key in _keys(settings) if len({repr(setting.get(key)) for setting in begun}) > 1]
    conditions = [key for key in _CONDITIONS if _varies(key, rows)]
    differing = {
        pair: [key for key in _PANEL if len({row[key] for row in rows if _pair(row) == pair} - {None}) > 1]
        for pair in {_pair(row) for row in rows}
    }
    for row, setting in zip(rows, settings, strict=True):
        told = {key: setting.get(key) for key in varied} | {key: row[key] for key in conditions}
        row["decoding"] = _joined(row["decoder"], pairs_text(told))
        if row["torch"] and _varies("torch", rows):
            row["hardware"] = _joined(row["hardware"], f"torch {row['torch']}")
        more = {key: row[key] for key in differing[_pair(row)]}
        row["panel"] = " · ".join([row["model"], row["task"], *pairs_text(more).split()])
    return rows


def decoding_settings(row: Row) -> dict[str, Any]:
    """Options of the decoding by name: those with a column of their own, and those in ``decoder_settings``."""
    return {key: row[key] for key in _DECODING} | read_pairs(row["decoder_settings"])


def read_pairs(text: str | None) -> dict[str, Any]:
    """``kp=50 kr=2`` with numbers as numbers; words without ``=`` name no parameter."""
    split = (word.partition("=") for word in (text or "").split())
    return {key: _value(value) for key, equals, value in split if equals}


def pairs_text(values: Mapping[str, Any]) -> str:
    """The same as text; what is None is left out."""
    return " ".join(f"{key}={shown(value)}" for key, value in values.items() if value is not None)


def shown(value: Any) -> str:
    """A parameter's value as on the command line."""
    return "null" if value is None else format(value, "g") if isinstance(value, float) else str(value)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of ``frame`` as dicts of Python's own types; NaN and NaT are None."""
    found = frame.to_dict(orient="records")
    return [{str(key): _plain(value) for key, value in row.items()} for row in found]


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value


def _row(values: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {key: _number(values.get(key)) for key in NUMBERS}
    row |= {key: _text(values.get(key)) for key in (*TEXTS, *_MORE, "group")}
    row |= {key: row[key] or MISSING for key in NEEDED}  # of a run whose files are damaged
    row["same_work"] = values.get("same_work") in (True, "True")
    row["baseline"] = row["cache"] == BASELINE
    row["items_total"] = _number(values.get("items_total"))
    row["ranked"] = values.get("ranked") in (True, "True")  # a file of mixed rows is read as text
    row["hardware"] = _joined(row["gpu"], row["machine"]) or row["device"]
    row["method"] = _joined(row["cache"], row["cache_parameters"])
    row["commit"] = row["commit"] and row["commit"][:10] + ("+" if values.get("dirty") else "")
    # The dot keeps a folder called "javascript:..." a folder.
    row["link"] = row["folder"] and f"./{quote(row['folder'].strip('/'), safe='/')}/"
    return row


def _varies(key: str, rows: list[dict[str, Any]]) -> bool:
    """Whether measured runs differ in ``key``; what others were to have is not what they had."""
    return len({row[key] for row in rows if row["score"] is not None} - {None}) > 1


def _pair(row: Row) -> tuple[str, str]:
    return row["model"], row["task"]


def _number(value: Any) -> float | int | None:
    """A number, also one that was read as text; None where it is none."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return value if abs(value) < math.inf else None
    try:
        read = float(str(value))
    except ValueError:
        return None
    return read if math.isfinite(read) else None


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else visible(str(value))


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


def _keys(settings: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for setting in settings for key in setting))
