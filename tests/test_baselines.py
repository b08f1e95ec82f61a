"""Each cell of a sweep has a baseline with the same decoding, also where a recipe decodes differently per cache."""

from __future__ import annotations

from pathlib import Path

from evaluation.config.command_line import cells
from evaluation.config.identity import setting
from evaluation.config.settings import Settings
from evaluation.sweep.baselines import distinct, with_baselines

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
DOCUMENTED = ["+recipe=d2cache", "cache=none,prefix,dllm,d2cache", "dataset.name=gsm8k"]


def sweep(*overrides: str) -> list[Settings]:
    return with_baselines(cells(list(overrides), sweep=True))


def compared(cell: Settings) -> str:
    return str(setting(cell.config))


def test_every_cell_of_the_documented_sweep_has_its_baseline() -> None:
    found = sweep(*DOCUMENTED, "model=llada-base,dream-base")
    for cell in found:
        (baseline,) = [one for one in found if one.cache.target == "none" and compared(one) == compared(cell)]
        assert baseline.generation == cell.generation
        assert baseline.config["cache"] == {"name": "none"}
    # of each model: the four that were asked for, and none in blocks and with a certainty prior
    assert [cell.cache.label for cell in found if cell.model.name == "llada-base"] == [
        *("none", "none", "prefix", "dllm", "none", "d2cache")
    ]
    assert len({cell.run_name for cell in found}) == len(found) == 12


def test_nothing_is_added_where_it_is_not_needed_or_not_asked_for() -> None:
    assert len(sweep("cache=none,dual,d2cache", "generation.threshold=null,0.9")) == 6
    assert len(sweep("+recipe=d2cache", "cache=prefix,d2cache", "model=llada-base")) == 2
    assert len(sweep("+recipe=fast_dllm", "cache=none,prefix,dual")) == 3
    # what is asked for in two spellings is there once
    both = sweep("cache=none,dual", "generation.sigma=0,null", "generation.block_length=16")
    assert [cell.cache.label for cell in distinct(both)] == ["none", "dual"]
