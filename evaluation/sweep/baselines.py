"""The runs without a cache that the cells of a sweep are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cache_zoo.errors import require
from evaluation.config.identity import counted
from evaluation.config.settings import CacheSettings, Settings
from evaluation.storage.saved_run import BASELINE


def with_baselines(cells: Sequence[Settings]) -> list[Settings]:
    """The cells of a sweep, and before each the run without a cache that decodes as it does, where there is none.

    A recipe may decode in another way for each cache, so that one run without a cache is not enough. Only a sweep that
    has such runs at all is added to.
    """
    if not any(cell.cache.target == BASELINE for cell in cells):
        return list(cells)
    there = {_folder(cell) for cell in cells}
    found = []
    for cell in cells:
        none = CacheSettings(BASELINE, BASELINE, {})
        baseline = replace(cell, cache=none, config={**cell.config, "cache": none.config})
        if _folder(baseline) not in there:
            there.add(_folder(baseline))
            found.append(baseline)
        found.append(cell)
    return found


def distinct(cells: Sequence[Settings]) -> list[Settings]:
    """The cells without those that mean the same run as an earlier one, in another spelling.

    Raises:
        UsageError: two that mean different runs have one name.
    """
    found: dict[tuple[str, str], Settings] = {}
    for cell in cells:
        kept = found.setdefault(_folder(cell), cell)
        require(
            kept is cell or counted(kept.config) == counted(cell.config),
            f"two different cells of the sweep have one name, {cell.run_name}, by chance; give them one by one, each "
            "with an output_dir of its own",
        )
    return list(found.values())


def _folder(cell: Settings) -> tuple[str, str]:
    return cell.output_dir, cell.run_name
