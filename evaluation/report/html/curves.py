"""Curves over a parameter: runs that differ in one numeric parameter of the cache or of the decoding, and in no other.

No parameter is known by name here; whatever varies is found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.report.html.columns import Row
from evaluation.report.html.measures import MEASURES
from evaluation.report.html.rows import decoding_settings, read_pairs, shown

_CONDITIONS = ("decoder", "metric", "n_shot", "n", "batch_size", "seed", "dtype", "device", "hardware")
Setting = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """Runs along one parameter.

    Attributes:
        parameter: key on the command line, ``cache.NAME`` or ``generation.NAME``.
        panel: curves of one panel share a chart.
        cache: its name.
        fixed: what sets it apart from other curves of this cache in the panel.
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
        settings[number] = dict.fromkeys(sorted(decoding)) | setting
    groups: dict[tuple[str, str, str], list[list[int]]] = defaultdict(list)
    for parameter in sorted({key for setting in settings.values() for key in setting if "." in key}):
        for runs in _alike(parameter, rows, settings):
            model, task, cache = (rows[runs[0]][key] for key in ("model", "task", "cache"))
            groups[parameter, f"{model} · {task}", cache].append(runs)
    return [
        Curve(parameter, panel, cache, fixed, runs, [settings[number][parameter] for number in runs])
        for (parameter, panel, cache), group in sorted(groups.items())
        for runs, fixed in zip(group, _apart(parameter, [settings[runs[0]] for runs in group]), strict=True)
    ]


def _alike(parameter: str, rows: Sequence[Row], settings: dict[int, Setting]) -> list[list[int]]:
    """Runs that differ in ``parameter`` alone, by its rising value."""
    alike: dict[str, list[int]] = defaultdict(list)
    for number, setting in settings.items():
        if parameter in setting and isinstance(setting[parameter], int | float | None):
            others = sorted((key, value) for key, value in setting.items() if key != parameter)
            alike[repr([[rows[number][key] for key in ("model", "task", "cache")], others])].append(number)
    varied = [runs for runs in alike.values() if len({settings[number][parameter] for number in runs}) > 1]
    return [sorted(runs, key=lambda number: _order(settings[number][parameter])) for runs in varied]


def _setting(row: Row) -> Setting:
    """Parameters by their keys on the command line, numbers as numbers, and the conditions of the run."""
    setting: Setting = {f"cache.{key}": value for key, value in read_pairs(row["cache_parameters"]).items()}
    setting |= {f"generation.{key}": value for key, value in decoding_settings(row).items()}
    return setting | {key: row[key] for key in _CONDITIONS}


def _measured(row: Row) -> bool:
    return row["score"] is not None or any(row[measure.key] is not None for measure in MEASURES)


def _order(value: float | None) -> tuple[bool, float]:
    return value is not None, value or 0


def _apart(parameter: str, settings: list[Setting]) -> list[str]:
    """What sets each of ``settings`` apart from the others, ``key=value ...``."""
    keys = sorted({key for setting in settings for key in setting if key != parameter})
    differing = [key for key in keys if any(other.get(key) != settings[0].get(key) for other in settings)]
    return [" ".join(f"{key.rpartition('.')[2]}={shown(one.get(key))}" for key in differing) for one in settings]
