"""Rules that say how many tokens a forward commits, and the order from left to right."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cache_zoo import UsageError
from generation import GenerationOptions, generate
from generation.options import RULES
from generation.selection import commit_best, entropy_count, factor_count, frechet_count
from generation.testing import StrategyCheck, strategy_checks
from models import Transformer
from tests.test_strategies import Game, committed


def padded(values: list[float], filled: float) -> torch.Tensor:
    return torch.tensor([values + [filled] * 2])


@pytest.mark.parametrize(
    ("confidence", "margin", "expected"),
    [
        ([0.99, 0.98, 0.1], 0.25, 2),  # 0.98, 0.95 and -0.83
        ([0.99, 0.98, 0.1], 0.96, 1),
        ([0.99, 0.98, 0.1], -0.9, 3),
        ([0.5], 0.0, 0),  # strictly more
        ([1.0, 1.0], 1.0, 0),
        ([0.1, 0.1], -1e9, 2),
    ],
)
def test_frechet_by_hand(confidence: list[float], margin: float, expected: int) -> None:
    assert frechet_count(padded(confidence, -torch.inf), margin).tolist() == [expected]


@pytest.mark.parametrize("margin", [0.3, 0.05, -0.5])
def test_equal_confidences_are_the_factor_rule(margin: float) -> None:
    for confidence in (0.99, 0.93, 0.8, 0.4):
        ordered = padded([confidence] * 9, -torch.inf)
        assert torch.equal(frechet_count(ordered, margin), factor_count(ordered, 1 - margin))


def test_a_lower_margin_commits_no_fewer() -> None:
    ordered = torch.rand(50, 20, generator=torch.Generator().manual_seed(0)).pow(0.05).sort(dim=1, descending=True)[0]
    numbers = torch.stack([frechet_count(ordered, margin) for margin in (0.9, 0.5, 0.1, -0.5, -5.0, -50.0)])
    assert (numbers.diff(dim=0) >= 0).all()
    assert numbers[-1].eq(20).all()
    assert len(numbers.unique()) > 8


@pytest.mark.parametrize(
    ("entropies", "limit", "expected"),
    [
        ([0.1, 0.2, 0.4], 0.29, 2),  # without the highest: 0, 0.1 and 0.3
        ([0.1, 0.2, 0.4], 0.31, 3),
        ([0.4, 0.1, 0.2], 0.09, 1),  # the highest so far, not the last: 0, 0.1, 0.3
        ([0.4, 0.1, 0.2], 0.29, 2),
        ([0.0, 0.0, 0.3], 0.0, 3),
        ([0.3, 0.3], 0.0, 1),
    ],
)
def test_the_entropy_bound_by_hand(entropies: list[float], limit: float, expected: int) -> None:
    assert entropy_count(padded(entropies, torch.inf), limit).tolist() == [expected]


def test_entropies_count_in_the_order_of_the_scores() -> None:
    score, entropy = torch.tensor([[0.2, 0.9, 0.5, 0.7]]), torch.tensor([[0.3, 0.4, 0.01, 0.1]])
    eligible = torch.tensor([[True, True, True, False]])
    options = GenerationOptions(gamma=0.02)  # 0.4 and 0.01 are in the sum before 0.3
    assert commit_best(score, eligible, torch.tensor([1]), options, entropy=entropy).tolist() == [
        [False, True, True, False]
    ]


def test_the_limits_of_the_rules(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    model, options = tiny_models["llada"], {"gen_length": 16, "block_length": 8}
    one = generate(model, prompts, **options)
    for rule in ({"frechet": 1.0}, {"gamma": 0.0}):
        assert torch.equal(generate(model, prompts, **options, **rule).tokens, one.tokens)
    for rule in ({"frechet": -100.0}, {"gamma": 1e6}):
        assert generate(model, prompts, **options, **rule).nfe == 2
    both = {"frechet": 1.0, "num_transfer_tokens": 3}
    assert generate(model, prompts, **options, **both).nfe == 6


@pytest.mark.parametrize(
    "rule",
    [
        {"frechet": -1.5},
        {"gamma": 9.0},
        {"gamma": 9.0, "alg": "entropy"},
        {"gamma": 9.0, "temperature": 0.7, "seed": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_a_batch_decodes_what_its_sequences_decode_alone(
    rule: dict[str, Any], family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    options = {"gen_length": 16, "block_length": 8, **rule}
    batch = generate(tiny_models[family], prompts, **options)
    assert 2 < batch.nfe < 16, "the rule of this test must have a choice"
    for number, prompt in enumerate(prompts):
        seed = {"seed": options["seed"] + number} if "seed" in options else {}
        alone = generate(tiny_models[family], [prompt], **{**options, **seed})
        assert torch.equal(alone.tokens[0], batch.tokens[number])
        assert alone.nfe == batch.forwards[number]


def test_left_to_right(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    options = {"gen_length": 8, "block_length": 4, "alg": "ar"}
    assert committed(Game([1], **options, num_transfer_tokens=3)) == [[0, 1, 2], [3], [4, 5, 6], [7]]
    assert committed(Game([1], **options, steps=4)) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    plan, chosen = Game([1, 2], **options).step()
    assert plan.planned is not None
    assert plan.planned.tolist() == chosen.int().tolist() == [[1] + [0] * 7] * 2
    assert not GenerationOptions(alg="ar").random
    model = tiny_models["dream"]
    ar, blocks_of_one = {"gen_length": 6, "block_length": 6, "alg": "ar"}, {"gen_length": 6, "block_length": 1}
    assert torch.equal(generate(model, prompts, **ar).tokens, generate(model, prompts, **blocks_of_one).tokens)
    assert generate(model, prompts, "dkv_greedy", **ar).nfe == 6  # it needs to know what comes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frechet": 0.1, "threshold": 0.9}, "threshold (0.9) and frechet (0.1) are two rules for the same choice"),
        ({"frechet": 0.1, "factor": 0.9}, "factor (0.9) and frechet (0.1) are two rules for the same choice"),
        ({"gamma": 0.1, "frechet": 0.9}, "frechet (0.9) and gamma (0.1) are two rules for the same choice"),
        ({"gamma": -0.1}, "gamma must not be negative, not -0.1"),
        ({"frechet": "high"}, "frechet must be a number or null, not 'high'"),
        ({"frechet": float("-inf")}, "frechet must be a finite number"),
        ({"frechet": 0.1, "alg": "entropy"}, "frechet needs confidences that are probabilities"),
        ({"frechet": 0.1, "alg": "random"}, "frechet takes the most confident tokens and alg=random draws which"),
        ({"gamma": 0.1, "alg": "ar"}, "gamma takes the most confident tokens and alg=ar takes the first; give one"),
        ({"alg": "ar", "alg_temp": 0.1}, "alg_temp=0.1 draws by confidences; alg=ar has none"),
        ({"alg": "ar", "sigma": 3.0}, "sigma=3.0 ranks tokens; alg=ar does not"),
        ({"frechet": 0.1, "alpha": 0.1}, "alpha (0.1) lowers a threshold; give one"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        GenerationOptions(gen_length=32, block_length=8, **options)
    assert message in str(error.value)


def test_the_rules_are_options_that_decide_by_distributions() -> None:
    for rule in RULES:
        options = GenerationOptions(**{rule: 0.5})
        assert (options.rule, options.counted, options.scheduled_steps) == (rule, False, None)
    assert GenerationOptions().counted


CONTRACT: list[StrategyCheck] = strategy_checks("vanilla", {"gamma": 6.0}, {"frechet": -1.0}, {"alg": "ar"})


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    "check", [check for check in CONTRACT if check.parameters and check.decoder != "threshold"], ids=str
)
def test_the_contract_of_strategies(check: StrategyCheck) -> None:
    check()
