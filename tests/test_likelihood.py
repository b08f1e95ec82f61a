"""Log-likelihood estimates against sums over every mask, written out."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch

from cache_zoo import UsageError
from generation import LikelihoodOptions, generate, log_likelihoods
from generation.likelihood import all_masks, choose_masks, draw_numbers, draw_rates
from models import Transformer

ANSWER = [65, 12, 200]


def log_probabilities(model: Transformer, prompt: list[int], answer: list[int], masked: tuple[int, ...]) -> float:
    """Sum of the log-probabilities of the masked tokens, one sequence, no padding; Dream shows the end."""
    config = model.config
    shown = [config.mask_id if place in masked else token for place, token in enumerate(answer)]
    ids = prompt + shown + ([config.eos_id] if config.family == "dream" else [])
    logits = model.run(torch.tensor([ids])).logits.log_softmax(dim=1)
    return sum(float(logits[len(prompt) + place - config.shift, answer[place]]) for place in masked)


def expectation(model: Transformer, prompt: list[int], answer: list[int]) -> float:
    """LLaDA's equation 14, written out: the mean over ``l`` of ``L / l`` times the mean over masks of ``l`` tokens."""
    length, total = len(answer), 0.0
    for number in range(1, length + 1):
        masks = list(combinations(range(length), number))
        sums = [log_probabilities(model, prompt, answer, mask) for mask in masks]
        total += length / number * sum(sums) / len(masks) / length
    return total


def rate_weight(length: int, size: int, least: float = 1e-3, steps: int = 20_000) -> float:
    """Dream's expected weight of one mask of ``size`` tokens: the integral over rates, by the midpoint rule."""
    width = (1 - least) / steps
    rates = [least + (n + 0.5) * width for n in range(steps)]
    return sum(rate ** (size - 1) * (1 - rate) ** (length - size) for rate in rates) / steps


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_a_short_answer_is_summed_exactly(
    family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    model, pairs = tiny_models[family], [(prompts[0], ANSWER), (prompts[1], ANSWER[:1]), (prompts[2], ANSWER[1:])]
    found, counts = log_likelihoods(model, pairs, seeds=[1, 2, 3], batch_size=4)
    for one, (prompt, answer) in zip(found, pairs, strict=True):
        assert one.value == pytest.approx(expectation(model, prompt, answer), rel=1e-5)
    assert found[1].value == pytest.approx(log_probabilities(model, prompts[1], ANSWER[:1], (0,)), rel=1e-5)
    assert [one.forwards for one in found] > [7, 1, 3]
    assert counts.rows == counts.rows_full > 0


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_draws_converge_to_the_sum_over_all_masks(
    family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    """Each mask runs once and is weighted by its draws: more draws cost no forwards."""
    model, draws = tiny_models[family], 200_000
    draw = draw_rates if family == "dream" else draw_numbers
    masks, weights = draw(3, draws, torch.Generator().manual_seed(5))
    estimate = spread = 0.0
    for number in range(1, 4):
        for mask in combinations(range(3), number):
            value = log_probabilities(model, prompts[0], ANSWER, mask)
            drawn = weights[(masks == torch.tensor([place in mask for place in range(3)])).all(dim=1)]
            estimate += value * float(drawn.sum())
            spread += value**2 * float((drawn**2).sum())
    error = math.sqrt(spread)  # an upper bound of the standard error
    exact = expectation(model, prompts[0], ANSWER)
    assert 0 < error < 0.02 * abs(exact)
    assert abs(estimate - exact) < 4 * error + (0.002 * abs(exact) if family == "dream" else 0)


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_an_estimate_is_unbiased_over_seeds(
    family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    """The whole path with few draws, so that nothing is summed exactly: 400 estimates of 3 draws each."""
    model, pair = tiny_models[family], (prompts[1], ANSWER)
    found, _ = log_likelihoods(model, [pair] * 400, LikelihoodOptions(mc_num=3), seeds=range(400), batch_size=64)
    values = torch.tensor([one.value for one in found], dtype=torch.float64)
    exact = expectation(model, *pair)
    assert float(values.std()) > 0
    assert abs(float(values.mean()) - exact) < 4 * float(values.std()) / 20


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_weights_of_all_masks_add_up(length: int) -> None:
    masks, weights = all_masks(length)
    assert len(masks.unique(dim=0)) == len(masks) == 2**length - 1
    # a token's log-probability, were it the same under every mask, would be counted once
    per_token = (masks * weights[:, None]).sum(dim=0)
    torch.testing.assert_close(per_token, torch.ones(length, dtype=torch.float64))


@pytest.mark.parametrize("draws", [6, 12, 60])
def test_numbers_of_masks_are_shared_out_equally(draws: int) -> None:
    for seed in range(10):
        masks, weights = draw_numbers(6, draws, torch.Generator().manual_seed(seed))
        numbers = masks.sum(dim=1)
        assert numbers.bincount(minlength=7).tolist() == [0, *[draws // 6] * 6]
        torch.testing.assert_close(weights, 6 / (numbers.double() * draws))


def test_numbers_do_not_prefer_even_ones() -> None:
    """Where a share is half a token (L = 3 in 6 draws); rounding halves to even would draw 2 more often."""
    total = torch.zeros(4, dtype=torch.long)
    for seed in range(300):
        masks, _ = draw_numbers(3, 6, torch.Generator().manual_seed(seed))
        assert masks.sum(dim=1).bincount(minlength=4).tolist() == [0, 2, 2, 2]
        total += masks[1].sum().eq(torch.arange(4))
    assert total[0] == 0
    assert all(70 < count < 130 for count in total[1:].tolist())


def test_dreams_weights_are_the_integral_over_rates() -> None:
    masks, weights = draw_rates(3, 400_000, torch.Generator().manual_seed(1))
    for mask in ([True, False, False], [False, True, True], [True, True, True]):
        drawn = float(weights[(masks == torch.tensor(mask)).all(dim=1)].sum())
        assert drawn == pytest.approx(rate_weight(3, sum(mask)), rel=0.02)
        assert drawn == pytest.approx(1 / (sum(mask) * math.comb(3, sum(mask))), rel=0.02)


def test_masks_depend_on_the_seed_alone() -> None:
    for estimator in ("llada", "dream"):
        one, other, again = (choose_masks(20, 64, estimator, seed) for seed in (1, 2, 1))
        assert torch.equal(one[0], again[0])
        assert not torch.equal(one[0][:10], other[0][:10])
        assert one[0].any(dim=1).all()
        assert len(one[0].unique(dim=0)) == len(one[0]) <= 64


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_the_batch_changes_nothing(family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    pairs = [(prompt, list(range(30, 30 + length))) for prompt, length in zip(prompts, (9, 2, 12), strict=True)]
    options = LikelihoodOptions(mc_num=16)
    whole, _ = log_likelihoods(tiny_models[family], pairs, options, seeds=[4, 5, 6], batch_size=7)
    for one, pair, seed in zip(whole, pairs, (4, 5, 6), strict=True):
        (alone,), _ = log_likelihoods(tiny_models[family], [pair], options, seeds=[seed])
        assert alone.value == pytest.approx(one.value, rel=1e-5)
        assert (alone.greedy, alone.forwards) == (one.greedy, one.forwards)


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_greedy_is_what_greedy_decoding_gives(
    family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    model = tiny_models[family]
    decoded = [generate(model, [prompt], gen_length=5, block_length=None).tokens[0].tolist() for prompt in prompts]
    pairs = [(prompt, answer) for prompt in prompts for answer in decoded]
    found, _ = log_likelihoods(model, pairs, LikelihoodOptions(mc_num=1), seeds=range(9), batch_size=4)
    assert [one.greedy for one in found] == [prompt == other for prompt in range(3) for other in range(3)]
    changed = [*decoded[0][:-1], (decoded[0][-1] + 1) % 256]
    (one,), _ = log_likelihoods(model, [(prompts[0], changed)], LikelihoodOptions(mc_num=1), seeds=[0])
    assert not one.greedy


def test_bad_likelihoods_are_named(tiny_models: dict[str, Transformer]) -> None:
    with pytest.raises(UsageError, match="mc_num must be at least 1, not 0"):
        LikelihoodOptions(mc_num=0)
    with pytest.raises(UsageError, match=r"unknown estimator 'lada': did you mean 'llada'\?"):
        LikelihoodOptions(estimator="lada")
    with pytest.raises(UsageError, match="pair 1 has an empty prompt or answer"):
        log_likelihoods(tiny_models["llada"], [([1], [2]), ([1], [])], seeds=[0, 1])
    with pytest.raises(UsageError, match="1 seeds for 2 pairs"):
        log_likelihoods(tiny_models["llada"], [([1], [2]), ([1], [2])], seeds=[0])
