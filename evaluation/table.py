"""One table from run folders: ``python -m evaluation.table results/``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cache_zoo import UsageError
from cache_zoo.arguments import Parser
from cache_zoo.errors import refusing
from evaluation import statistics
from evaluation.compare import compare, find_baseline
from evaluation.runs import STATUS
from evaluation.saved_run import SavedRun

AXES = ("model", "dataset", "generation", "cache")
_FIGURES = (
    ("tokens/s", "tokens_per_second", ".1f", 1),
    ("speed-up", "speed_up", ".2f", 1),
    ("NFE", "nfe", ".1f", 1),
    ("tokens/forward", "tokens_per_forward", ".2f", 1),
    ("compute ratio", "compute_ratio", ".3f", 1),
    ("agreement %", "agreement", ".1f", 100),
    ("cache MB", "cache_bytes", ".1f", 1e-6),
)
_NUMBERS = ("n", "items_total", "score", "score_low", "score_high", *(key for _, key, _, _ in _FIGURES))


def read_runs(folder: Path) -> pd.DataFrame:
    """One row per run in ``folder``, numbers as numbers; the runs with the most work of an axis come first.

    ``folder`` is its name, ``settings`` has the configuration keys that differ between the runs of a cache, without the
    four axes. ``score_low`` and ``score_high`` are the 95 % interval of the score. ``speed_up`` and ``agreement`` are
    against the run without a cache that is otherwise the same (see `evaluation.compare`).

    Raises:
        UsageError: there are none.
    """
    folders = [path.parent for path in sorted(folder.glob(f"*/{STATUS}"))]
    if not folders:
        raise UsageError(f"there are no runs in {folder}; run eval.py with output_dir={folder}")
    rows = {run: _row(run) for run in map(SavedRun, folders)}
    finished = [run for run in rows if run.done]
    for run in finished:
        rows[run] |= {"settings": _settings(run, finished), **_compared(run, finished)}
    frame = pd.DataFrame(list(rows.values()))
    for key in _NUMBERS:
        frame[key] = pd.to_numeric(frame[key])
    order = [*AXES[:3], "compute_ratio", "settings"]
    return frame.sort_values(order, ascending=[True] * 3 + [False, True], ignore_index=True)


def render(frame: pd.DataFrame) -> str:
    """The table as text; what was not measured is N/A, and a column that would say nothing is left out."""
    return str(_shown(frame).to_string(index=False))


def render_markdown(frame: pd.DataFrame, without: Sequence[str] = ()) -> str:
    """The table in Markdown, some columns left out."""
    shown = _shown(frame).drop(columns=list(without))
    lines = [shown.columns, ["---"] * len(shown.columns), *shown.itertuples(index=False)]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _shown(frame: pd.DataFrame) -> pd.DataFrame:
    shown = frame[list(AXES)].copy()
    if frame["settings"].any():
        shown["settings"] = frame["settings"]
    shown["n"] = [_count(n, total) for n, total in zip(frame["n"], frame["items_total"], strict=True)]
    columns = (frame[key] for key in ("score", "score_low", "score_high"))
    shown["accuracy % [95 %]"] = [_accuracy(*values) for values in zip(*columns, strict=True)]
    for title, key, form, scale in _FIGURES:
        shown[title] = [_number(value * scale, form) for value in frame[key]]
    shown["status"] = frame["status"]
    return shown


def _row(run: SavedRun) -> dict[str, Any]:
    row: dict[str, Any] = {**run.axes, **dict.fromkeys(_NUMBERS)}
    if run.done:
        row |= {key: value for key, value in run.summary if key in row and value is not None}
        if run.scores:
            score = statistics.mean(list(run.scores.values()))
            row |= {"score_low": score.low, "score_high": score.high}
    return row | {"settings": "", "status": run.status.status, "folder": run.folder.name}


def _compared(run: SavedRun, runs: list[SavedRun]) -> dict[str, float | None]:
    """Speed-up and agreement; nothing where there is no run to compare with, or none that was asked the same."""
    baseline = find_baseline(run, runs)
    if baseline is None:
        return {}
    try:
        comparison = compare(run, baseline)
    except UsageError:
        return {}
    speed_up = comparison.speed_up.value if comparison.speed_up else None
    return {"speed_up": speed_up, "agreement": comparison.agreement}


def _settings(run: SavedRun, runs: list[SavedRun]) -> str:
    """What sets ``run`` apart from the runs that share its names: ``key=value ...``."""
    alike = [one.options for one in runs if one.options.get("cache.name") == run.options.get("cache.name")]
    named = {"model.name", "model.path", "cache.name", "dataset.name", "output_dir"}
    differing = [
        f"{key}={'null' if value is None else value}"
        for key, value in run.options.items()
        if key not in named and not key.startswith("recipe.") and any(other.get(key) != value for other in alike)
    ]
    return " ".join(differing)


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


@refusing
def main() -> int:
    """Print the table of the folder on the command line."""
    parser = Parser(prog="python -m evaluation.table", description="One table from run folders.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("results"), help="output_dir of the runs")
    parser.add_argument("--markdown", action="store_true", help="as a Markdown table")
    arguments = parser.parse_args()
    frame = read_runs(arguments.folder)
    print(render_markdown(frame) if arguments.markdown else render(frame))
    return 0


if __name__ == "__main__":
    sys.exit(main())
