"""One table from run folders: ``python -m evaluation.table results/``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from cache_zoo import UsageError
from evaluation.runs import RESULTS, STATUS

_AXES = ["model", "dataset", "generation", "cache"]


def read_runs(folder: Path) -> pd.DataFrame:
    """One row per run in ``folder``, numbers as numbers; the runs with the most work of an axis come first.

    Raises:
        UsageError: there are none.
    """
    rows = [_row(path.parent) for path in sorted(folder.glob(f"*/{STATUS}"))]
    if not rows:
        raise UsageError(f"there are no runs in {folder}; run eval.py with output_dir={folder}")
    frame = pd.DataFrame(rows)
    frame["compute_ratio"] = pd.to_numeric(frame["compute_ratio"])
    return frame.sort_values([*_AXES[:3], "compute_ratio"], ascending=[True] * 3 + [False], ignore_index=True)


def render(frame: pd.DataFrame) -> str:
    """The table as text; what was not measured is N/A."""
    shown = frame[_AXES].copy()
    shown["n"] = [_number(value, ".0f") for value in frame["n"]]
    columns = (frame[key] for key in ("score", "score_stderr", "n"))
    shown["accuracy % [95 %]"] = [_interval(*values) for values in zip(*columns, strict=True)]
    for title, key, form in (
        ("tokens/s", "tokens_per_second", ".1f"),
        ("NFE", "nfe", ".1f"),
        ("tokens/forward", "tokens_per_forward", ".2f"),
        ("compute ratio", "compute_ratio", ".3f"),
        ("cache MB", "cache_bytes", ".1f"),
    ):
        scale = 1e-6 if key == "cache_bytes" else 1
        shown[title] = [_number(value * scale if _there(value) else None, form) for value in frame[key]]
    shown["status"] = frame["status"]
    return str(shown.to_string(index=False))


def _row(folder: Path) -> dict[str, Any]:
    status = json.loads((folder / STATUS).read_text(encoding="utf-8"))["status"]
    axes = dict(zip(("model", "cache", "generation", "dataset"), folder.name.split("__"), strict=False))
    keys = ("n", "score", "score_stderr", "tokens_per_second", "nfe", "tokens_per_forward", "compute_ratio")
    row: dict[str, Any] = {**axes, **dict.fromkeys((*keys, "cache_bytes")), "status": status}
    if status == "done":
        summary = json.loads((folder / RESULTS).read_text(encoding="utf-8"))["summary"]
        row |= {key: summary[key] for key in row if key in summary}
    return row


def _interval(score: Any, stderr: Any, n: Any) -> str:
    """A score in percent with its 95 % interval: Wilson's where every question is right or wrong, else normal."""
    if not _there(score):
        return "N/A"
    right = score * n
    if abs(right - round(right)) < 1e-6:
        low, high = binomtest(round(right), int(n)).proportion_ci(method="wilson")
    elif _there(stderr):
        low, high = score - 1.96 * stderr, score + 1.96 * stderr
    else:
        return f"{100 * score:.1f}"
    return f"{100 * score:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _there(value: Any) -> bool:
    return value is not None and not pd.isna(value)


def _number(value: Any, form: str) -> str:
    return format(float(value), form) if _there(value) else "N/A"


def main() -> int:
    """Print the table of the folder on the command line."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.table", description="One table from run folders.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("results"), help="output_dir of the runs")
    try:
        print(render(read_runs(parser.parse_args().folder)))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
