"""The cells of a sweep: baselines added, duplicates removed."""

from __future__ import annotations

from collections.abc import Sequence

from cache_zoo.errors import require
from evaluation.config.identity import counted
from evaluation.config.settings import Settings


def with_baselines(cells: Sequence[Settings]) -> list[Settings]:
    """The cells of a sweep, each missing baseline inserted before the first cell that needs it.

    A recipe may decode differently for each cache, so one baseline may not be that of all cells. Nothing is added to a
    sweep without any.
    """
    if not any(cell.is_baseline for cell in cells):
        return list(cells)
    seen = {_folder(cell) for cell in cells}
    complete = []
    for cell in cells:
        baseline = cell.baseline
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
