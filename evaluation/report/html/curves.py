"""Curves over a parameter: runs that differ in one numeric parameter of the cache or the decoding and in nothing else.

Parameters are found, not listed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.config.differences import differing
from evaluation.report.column_type import Row
from evaluation.report.columns import SPEED_AXES
from evaluation.report.html.page_rows import LEFT_OUT, decoding_settings, parameter_text, read_pairs

_CONDITIONS = (
    "suffix",
    "store",
    "decoder",
    "metric",
    "n_shot",
    "n",
    "batch_size",
    "seed",
    "dtype",
    "device",
    "hardware",
)
Setting = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """Runs along one parameter.

    Attributes:
        parameter: key on the command line, ``cache.NAME``, ``suffix.NAME`` or ``generation.NAME``.
        panel: curves of one panel share a chart.
        cache: its name.
        fixed: what differs from other curves of this cache in the panel.
        runs: numbers of the rows, by rising value.
        values: of the parameter, one per run; None (null on the command line) first.
    """

    parameter: str
    panel: str
    cache: str
    fixed: str
    runs: list[int]
    values: list[float | None]

    def plain(self) -> dict[str, Any]:
        """What the page's script reads."""
        return asdict(self)


def find_curves(rows: Sequence[Row]) -> list[Curve]:
    """All curves of at least two values, sorted by parameter, panel and cache."""
    settings = {number: _setting(row) for number, row in enumerate(rows) if _measured(row)}
    decoding = {key for setting in settings.values() for key in setting if key.startswith("generation.")}
    for number, setting in settings.items():
        settings[number] = {key: LEFT_OUT.get(key.partition(".")[2]) for key in sorted(decoding)} | setting
    groups: dict[tuple[str, str, str], list[list[int]]] = defaultdict(list)
    for parameter in sorted({key for setting in settings.values() for key in setting if "." in key}):
        for runs in _otherwise_equal(parameter, rows, settings):
            model, task, cache = (rows[runs[0]][key] for key in ("model", "task", "cache"))
            groups[parameter, f"{model} · {task}", cache].append(runs)
    return [
        Curve(parameter, panel, cache, fixed, runs, [settings[number][parameter] for number in runs])
        for (parameter, panel, cache), group in sorted(groups.items())
        for runs, fixed in zip(group, _fixed(parameter, [settings[runs[0]] for runs in group]), strict=True)
    ]


def _otherwise_equal(parameter: str, rows: Sequence[Row], settings: dict[int, Setting]) -> list[list[int]]:
    """Runs that differ in ``parameter`` alone, by its rising value."""
    equal: dict[str, list[int]] = defaultdict(list)
    for number, setting in settings.items():
        if parameter in setting and isinstance(setting[parameter], int | float | None):
            others = sorted((key, value) for key, value in setting.items() if key != parameter)
            equal[repr([[rows[number][key] for key in ("model", "task", "cache")], others])].append(number)
    varied = [runs for runs in equal.values() if len({settings[number][parameter] for number in runs}) > 1]
    return [sorted(runs, key=lambda number: _order(settings[number][parameter])) for runs in varied]


def _setting(row: Row) -> Setting:
    """Parameters by their keys on the command line, numbers as numbers, and the conditions of the run."""
    setting: Setting = {f"cache.{key}": value for key, value in read_pairs(row["cache_parameters"]).items()}
    setting |= {f"suffix.{key}": value for key, value in read_pairs(row["suffix_parameters"]).items()}
    setting |= {f"generation.{key}": value for key, value in decoding_settings(row).items()}
    return setting | {key: row[key] for key in _CONDITIONS}


def _measured(row: Row) -> bool:
    return row["score"] is not None or any(row[column.key] is not None for column in SPEED_AXES)


def _order(value: float | None) -> tuple[bool, float]:
    return value is not None, value or 0


def _fixed(parameter: str, settings: list[Setting]) -> list[str]:
    """What differs between ``settings`` besides ``parameter``, ``key=value ...`` for each."""
    keys = sorted(key for key in differing(settings) if key != parameter)
    return [" ".join(f"{key.rpartition('.')[2]}={parameter_text(one.get(key))}" for key in keys) for one in settings]
