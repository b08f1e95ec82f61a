"""One table from run folders: ``cache-zoo table results/``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cache_zoo.arguments import positional, read
from cache_zoo.errors import DONE, refusing, visible
from evaluation.config.differences import differing, option_text, options
from evaluation.report.column_type import MISSING
from evaluation.report.columns import columns_in, plain_rows
from evaluation.report.markdown import escaped, table_text
from evaluation.report.rows import read_rows
from evaluation.storage.find_runs import find_runs
from evaluation.storage.saved_run import SavedRun

AXES = {"model": "model", "task": "dataset", "decoder": "generation", "cache": "cache"}
"""Columns of the leaderboard to their names on the command line."""
_MAX_SETTING = 80  # characters of a setting


def read_runs(folder: Path) -> pd.DataFrame:
    """One row per run in ``folder``; of an axis the runs with the most work come first.

    The columns are those of the leaderboard (`evaluation.report.rows.read_rows`), the axes named as on the command
    line, and ``settings``: the options that differ between the runs of a cache.

    Raises:
        UsageError: there are no runs.
    """
    runs = find_runs([folder], name_from=folder, levels=1)
    frame = read_rows(runs)
    settings = _settings({name: runs[name] for name in frame["folder"][frame["group"].notna()] if name in runs})
    frame["settings"] = [settings.get(name, "") for name in frame["folder"]]
    order = ["model", "task", "decoder", "compute_ratio", "settings"]
    ordered = frame.sort_values(order, ascending=[True] * 3 + [False, True], ignore_index=True)
    return ordered.rename(columns=AXES)


def render(frame: pd.DataFrame) -> str:
    """The table as text, and below it the notes of damaged runs."""
    damaged = frame[frame["status"].isna() | ((frame["status"] == "done") & frame["group"].isna())]
    notes = [f"{name}: {note}" for name, note in zip(damaged["folder"], damaged["note"], strict=True)]
    return "\n".join([str(_cells(frame).to_string(index=False)), *notes])


def render_markdown(frame: pd.DataFrame, without: Sequence[str] = ()) -> str:
    """The table in Markdown, without some columns."""
    cells = _cells(frame).drop(columns=list(without))
    rows = ([escaped(str(cell)) for cell in line] for line in cells.itertuples(index=False))
    return table_text(map(escaped, cells.columns), rows)


def _cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells as text, N/A where something is missing; columns without any information are left out."""
    cells = frame[list(AXES.values())].copy()
    if frame["settings"].any():
        cells["settings"] = frame["settings"]
    rows = plain_rows(frame)
    for column in columns_in("table", rows):
        if column.if_any and not any(row[column.key] for row in rows):
            continue
        cells[column.table_title] = [column.table_text(row) for row in rows]
    cells["status"] = frame["status"]
    return cells.fillna(MISSING)


def _settings(runs: dict[str, SavedRun]) -> dict[str, str]:
    """The options of each run that differ between the runs of its cache, ``key=value ...``, by the run's name.

    Parameters of a suffix rule are there if they differ between the runs of the cache with this rule.
    """
    caches: dict[str | None, dict[str | None, dict[str, dict[str, Any]]]] = {}
    for name, run in runs.items():
        rules = caches.setdefault(run.config.cache.name, {})
        rules.setdefault(run.config.suffix.name, {})[name] = options(run.options)
    settings = {}
    for rules in caches.values():
        every = differing([own for members in rules.values() for own in members.values()])
        keys = [key for key in every if not key.startswith("suffix.")]
        for members in rules.values():
            tuned = [key for key in differing(list(members.values())) if key.startswith("suffix.")]
            for name, own in members.items():
                texts = (f"{key}={option_text(own[key])[:_MAX_SETTING]}" for key in [*keys, *tuned] if key in own)
                settings[name] = visible(" ".join(texts))
    return settings


@dataclass(frozen=True)
class TableOptions:
    """Print one table of the runs in a folder.

    Attributes:
        folder: output_dir of the runs.
        markdown: print a Markdown table.
    """

    folder: Path = positional(Path("results"))
    markdown: bool = False


@refusing
def main() -> int:
    """Print the table and return the exit status."""
    options = read(TableOptions, "cache-zoo table")
    frame = read_runs(options.folder)
    print(render_markdown(frame) if options.markdown else render(frame))
    return DONE
