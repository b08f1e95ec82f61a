"""The committed runs of the embedded grid are complete, pass the check, and give the committed leaderboard."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from evaluation.report.check import check_run
from evaluation.report.leaderboard import make_leaderboard

REFERENCE = Path(__file__).resolve().parent.parent / "results" / "reference"
RUNS = sorted(path.parent for path in REFERENCE.glob("*/status.json"))


@pytest.mark.sampled(6)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_run_passes_the_check(run: Path) -> None:
    assert check_run(run) == []


def test_the_leaderboard_is_made_of_the_runs(tmp_path: Path) -> None:
    copy = tmp_path / "reference"
    shutil.copytree(REFERENCE, copy, ignore=shutil.ignore_patterns("leaderboard.*"))
    assert len(make_leaderboard([copy], copy, published=True)) == len(RUNS) == 40
    for name in ("leaderboard.csv", "leaderboard.md"):
        assert (copy / name).read_bytes() == (REFERENCE / name).read_bytes(), name


def test_the_grid_is_whole_and_ranked() -> None:
    frame = pd.read_csv(REFERENCE / "leaderboard.csv")
    axes = ["model", "task", "cache", "threshold"]
    assert frame[axes].drop_duplicates().shape == (40, 4)
    assert [frame[axis].nunique(dropna=False) for axis in axes] == [2, 2, 5, 2]
    assert frame["ranked"].all()
    assert (frame["n"] == frame["items_total"]).all()
