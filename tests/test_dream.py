"""Dream's own sampler as one choice."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cache_zoo import UsageError
from evaluation.config.command_line import cells
from generation import GenerationOptions, generate
from generation.testing import StrategyCheck, strategy_checks
from models import Transformer
from tests.test_strategies import Game, committed


def test_the_choice_is_the_official_default() -> None:
    (settings,) = cells(["model=nano-dream", "dataset=nano-gsm", "generation=dream", "generation.gen_length=64"])
    options = settings.generation
    assert (options.steps, options.schedule, options.eps, options.alg) == (64, "dream", 0.001, "entropy")
    assert (options.block, options.temperature, options.alg_temp) == (64, 0.0, None)


@pytest.mark.parametrize("shaping", [{}, {"alg": "entropy"}, {"steps": 8, "alg_temp": 0.5, "seed": 1}], ids=str)
def test_it_is_vanilla_with_dreams_schedule(
    shaping: dict[str, Any], tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    model, shaping = tiny_models["dream"], {"gen_length": 16, **shaping}
    ours = generate(model, prompts, **shaping, strategy="dream", block_length=4)
    vanilla = {"block_length": None, "schedule": "dream", "steps": 16}
    expected = generate(model, prompts, **{**vanilla, **shaping})
    assert torch.equal(ours.tokens, expected.tokens)
    assert ours.forwards == expected.forwards


def test_as_many_steps_as_tokens_commit_none_at_first_and_two_at_last() -> None:
    game = Game([1], strategy="dream", gen_length=16, block_length=8)
    assert [len(columns) for columns in committed(game)] == [0] + [1] * 14 + [2]
    assert game.strategy.patience == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.9}, "commits what its schedule says, and threshold is another rule; leave it out"),
        ({"gamma": 0.9}, "and gamma is another rule"),
        ({"num_transfer_tokens": 2}, "and num_transfer_tokens=2 is another rule; give steps"),
        ({"schedule": "dream_canvas", "steps": 8}, "schedule=dream_canvas is another; give schedule=dream"),
        ({"first_forward": "first_token"}, "needs blocks, and strategy 'dream' has none"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        GenerationOptions.make(strategy="dream", gen_length=32, block_length=8, **options)
    assert message in str(error.value)


CONTRACT = strategy_checks("dream", decoders=["blocks", "sampling", "until-eos", "idle-forwards"])


@pytest.mark.sampled(8)
@pytest.mark.parametrize("check", CONTRACT, ids=str)
def test_the_contract_of_strategies(check: StrategyCheck) -> None:
    check()
