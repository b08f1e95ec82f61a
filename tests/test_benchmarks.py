"""The benchmarks run; what they print is no claim of speed here."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from benchmarks import checkouts, decoders
from cache_zoo import UsageError
from generation.strategies.registry import strategies
from models.nano.data import held_out

ROOT = Path(__file__).resolve().parents[1]
TINY = "width=64 layers=2 vocab=64 prompt=8 gen=8 block=4 rounds=2 caches=none,dual".split()


@pytest.mark.slow
def test_two_checkouts_are_compared_by_turns(capsys: pytest.CaptureFixture[str]) -> None:
    assert checkouts.main([f"before={ROOT}", f"after={ROOT}", *TINY]) == 0
    header, *rows = capsys.readouterr().out.splitlines()[2:]
    assert header.split() == ["cache", "before_ms", "after_ms", "ratio", "lower_quartile", "upper_quartile"]
    assert [row.split()[0] for row in rows] == ["none", "dual"]
    assert all(float(value) > 0 for row in rows for value in row.split()[1:])


def test_another_folder_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no checkout of this repository"):
        checkouts.main([f"before={tmp_path}", *TINY])


def test_settings_are_chosen_by_forwards_among_equal_scores() -> None:
    runs = pd.DataFrame(
        {"folder": ["a", "b", "c", "d"], "score": [0.95, 0.93, 0.92, 0.93], "nfe": [9.0, 5.0, 2.0, 5.5]}
    )
    assert decoders.fewest_forwards(runs, 2.0) == "b"
    assert decoders.fewest_forwards(runs, 0.0) == "a"
    assert decoders.fewest_forwards(runs, 3.0) == "c"


def test_training_questions_are_not_those_of_the_test() -> None:
    asked = {one.question for one in decoders.training_problems(200)}
    assert len(asked) == 200
    assert not asked & held_out()


def test_every_strategy_is_compared() -> None:
    plan = OmegaConf.load(decoders.PLAN)
    chosen = [part for decoder in plan.decoders.values() for part in decoder.set.split() if "generation=" in part]
    assert {part.partition("=")[2] for part in chosen} == set(strategies.names())
