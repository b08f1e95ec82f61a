"""Small real runs for the tests of statistics and leaderboard, and helpers to edit copies of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.config.command_line import cells
from evaluation.run.evaluate import evaluate_cell
from models.nano.data import ITEMS

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
QUESTIONS = 6
_SWEEPS = (  # all questions of a small file one by one, pairs of them, and a part of the dataset
    ["cache=none,dual,d2cache", "batch_size=1"],
    ["cache=none,dual", "batch_size=4"],
    ["cache=none", "dataset.size=3"],
)
_COMMON = ["model=nano-llada", "dataset=nano-gsm", "generation.gen_length=64", "generation.threshold=0.9"]


def make_runs(folder: Path) -> Path:
    """Answer the first questions of nano-gsm; the runs are those of the sweeps above, under ``folder/results``.

    They are made to look as if they were run from a commit without changes, which the checkout of a test need not be.
    """
    data, results = folder / "data", folder / "results"
    data.mkdir()
    shutil.copy(ITEMS / "gsm" / "train.jsonl", data)
    questions = (ITEMS / "gsm" / "test.jsonl").read_text().splitlines(keepends=True)
    (data / "test.jsonl").write_text("".join(questions[:QUESTIONS]))
    for sweep in _SWEEPS:
        given = [*_COMMON, f"dataset.path={data}", f"output_dir={results}", *sweep]
        for settings in cells(given, sweep=True):
            evaluate_cell(settings)
    shutil.rmtree(results / ".locks")  # of runs that are done
    for run in results.iterdir():
        edit_results(run, _committed)
    return results


def _committed(found: dict[str, Any]) -> None:
    origin = found["provenance"]
    origin |= {"git": {"commit": "c" * 40, "dirty": False}, "cache_code": {"origin": "cache-zoo"}}
    origin.setdefault("model", {"name": "nano-llada", "family": "llada", "weights_sha256": "d" * 64})


def pick(results: Path, cache: str, batch_size: int = 1, whole: bool = True) -> Path:
    """The only run of `make_runs` that matches."""

    def wanted(run: Path) -> bool:
        config = json.loads((run / "results.json").read_text())["config"]
        return bool(config["batch_size"] == batch_size and (config["dataset"]["size"] is None) == whole)

    (found,) = (run for run in results.glob(f"*__{cache}__*") if wanted(run))
    return found


def edit_results(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit ``results.json``."""
    found = json.loads((run / "results.json").read_text())
    change(found)
    (run / "results.json").write_text(json.dumps(found, indent=2) + "\n")


def edit_samples(run: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Edit ``samples.jsonl``."""
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    change(samples)
    (run / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))


def unset_commit(found: dict[str, Any]) -> None:
    """Remove the commit from ``results.json``."""
    found["provenance"]["git"] = None


def call(monkeypatch: pytest.MonkeyPatch, module: Any, *arguments: object) -> int:
    """Exit status of a module's program with these arguments."""
    monkeypatch.setattr("sys.argv", [module.__name__, *map(str, arguments)])
    return int(module.main())
