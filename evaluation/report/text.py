"""One table from run folders: ``cache-zoo table results/``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cache_zoo.arguments import positional, read
from cache_zoo.errors import DONE, refusing, visible
from evaluation.report.compare import SAME_WORK
from evaluation.report.markdown import escaped
from evaluation.report.rows import read_rows
from evaluation.storage.find_runs import find_runs
from evaluation.storage.saved_run import SavedRun

AXES = ("model", "dataset", "generation", "cache")
_NAMES = {"task": "dataset", "decoder": "generation"}  # of the leaderboard's columns on the command line
_FIGURES = (
    ("tokens/s", "tokens_per_second", ".1f", 1),
    ("speed-up", "speedup", ".2f", 1),
    ("NFE", "nfe", ".1f", 1),
    ("tokens/forward", "tokens_per_forward", ".2f", 1),
    ("compute ratio", "compute_ratio", ".3f", 1),
    ("agreement %", "agreement", ".1f", 100),
    ("cache MB", "cache_mb", ".1f", 1),
)
_LONGEST = 80  # letters of a setting that are shown
_NAMED = {"model.name", "model.path", "cache.name", "dataset.name", "output_dir"}


def read_runs(folder: Path) -> pd.DataFrame:
    """One row per run in ``folder``; the runs with the most work of an axis come first.

    The columns are those of the leaderboard (`evaluation.report.rows.read_rows`), with the axes as on the command line;
    ``settings`` has the configuration keys that differ between the runs of a cache, without the four axes.

    Raises:
        UsageError: there are none.
    """
    runs = find_runs([folder], name_from=folder, levels=1)
    frame = read_rows(runs).rename(columns=_NAMES)
    settings = _settings({name: runs[name] for name in frame["folder"][frame["group"].notna()] if name in runs})
    frame["settings"] = [settings.get(name, "") for name in frame["folder"]]
    order = [*AXES[:3], "compute_ratio", "settings"]
    return frame.sort_values(order, ascending=[True] * 3 + [False, True], ignore_index=True)


def render(frame: pd.DataFrame) -> str:
    """The table as text; what was not measured is N/A, and a column that would say nothing is left out.

    Below it are the notes of runs that have no figures because their files are damaged.
    """
    damaged = frame[frame["status"].isna() | ((frame["status"] == "done") & frame["group"].isna())]
    notes = [f"{name}: {note}" for name, note in zip(damaged["folder"], damaged["note"], strict=True)]
    return "\n".join([str(_shown(frame).to_string(index=False)), *notes])


def render_markdown(frame: pd.DataFrame, without: Sequence[str] = ()) -> str:
    """The table in Markdown, some columns left out."""
    shown = _shown(frame).drop(columns=list(without))
    lines = [shown.columns, ["---"] * len(shown.columns), *shown.itertuples(index=False)]
    return "\n".join("| " + " | ".join(escaped(str(cell)) for cell in line) + " |" for line in lines)


def _shown(frame: pd.DataFrame) -> pd.DataFrame:
    shown = frame[list(AXES)].copy()
    if frame["settings"].any():
        shown["settings"] = frame["settings"]
    shown["n"] = [_count(n, total) for n, total in zip(frame["n"], frame["items_total"], strict=True)]
    if frame["empty_answers"].fillna(0).any():
        shown["empty answers"] = [_number(count, ".0f") for count in frame["empty_answers"]]
    columns = (frame[key] for key in ("score", "score_low", "score_high"))
    shown["accuracy % [95 %]"] = [_accuracy(*values) for values in zip(*columns, strict=True)]
    for title, key, form, scale in _FIGURES:
        shown[title] = [_number(value * scale, form) for value in frame[key]]
    shown.loc[frame["same_work"].fillna(False).astype(bool), "speed-up"] = SAME_WORK
    shown["status"] = frame["status"]
    return shown.fillna("N/A")


def _settings(runs: dict[str, SavedRun]) -> dict[str, str]:
    """What sets each run apart from those that share its cache, by the run's name: ``key=value ...``."""
    members = Counter(run.config.cache.name for run in runs.values())
    having = Counter((run.config.cache.name, *option) for run in runs.values() for option in _options(run).items())

    def differing(run: SavedRun) -> str:
        cache = run.config.cache.name
        told = {key: text for key, text in _options(run).items() if having[cache, key, text] < members[cache]}
        return visible(" ".join(f"{key}={text[:_LONGEST]}" for key, text in told.items()))

    return {name: differing(run) for name, run in runs.items()}


def _options(run: SavedRun) -> dict[str, str]:
    """What a run was told besides the axes, values as on the command line."""
    told = {key: value for key, value in run.options.items() if key not in _NAMED and key.split(".")[0] != "recipe"}
    return {key: "null" if value is None else str(value) for key, value in told.items()}


def _accuracy(score: Any, low: Any, high: Any) -> str:
    """A score in percent with its interval."""
    if pd.isna(score):
        return "N/A"
    return f"{100 * score:.1f}" + ("" if pd.isna(low) else f" [{100 * low:.1f}, {100 * high:.1f}]")


def _count(n: Any, total: Any) -> str:
    """How many questions were asked; of how many, where it was not all of them."""
    shown = _number(n, ".0f")
    return shown if pd.isna(total) or pd.isna(n) or n >= total else f"{shown}/{total:.0f}"


def _number(value: Any, form: str) -> str:
    return "N/A" if pd.isna(value) else format(float(value), form)


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
