"""The cells of a sweep: baselines added, duplicates removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cache_zoo.errors import require
from evaluation.config.identity import BASELINE, counted
from evaluation.config.settings import CacheSettings, Settings


def with_baselines(cells: Sequence[Settings]) -> list[Settings]:
    """The cells of a sweep, each missing baseline inserted before the first cell that needs it.

    A recipe may decode differently for each cache, so one ``cache=none`` may not be the baseline of all cells. Nothing
    is added to a sweep without ``cache=none``.
    """
    if not any(cell.cache.target == BASELINE for cell in cells):
        return list(cells)
    none = CacheSettings(BASELINE, BASELINE, {})
    seen = {_folder(cell) for cell in cells}
    complete = []
    for cell in cells:
        baseline = replace(cell, cache=none, config={**cell.config, "cache": none.config})
        if _folder(baseline) not in seen:
            seen.add(_folder(baseline))
            complete.append(baseline)
        complete.append(cell)
    return complete


def distinct(cells: Sequence[Settings]) -> list[Settings]:
    """The cells without those that are the same run as an earlier one, in another spelling.

    Raises:
        UsageError: two different runs have one name.
    """
    kept: dict[tuple[str, str], Settings] = {}
    for cell in cells:
        first = kept.setdefault(_folder(cell), cell)
        require(
            first is cell or counted(first.config) == counted(cell.config),
            f"two cells of the sweep have the same name by chance, {cell.run_name}; run them one by one, each with "
            "another output_dir",
        )
    return list(kept.values())


def _folder(cell: Settings) -> tuple[str, str]:
    return cell.output_dir, cell.run_name
