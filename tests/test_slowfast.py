"""SlowFast sampling: cycles, estimates of their ends, and the cut canvas of fast forwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cache_zoo import UsageError, caches
from generation import GenerationOptions, GenerationOutput, Strategy, View, generate
from generation.testing import StrategyCheck, strategy_checks
from models import Transformer
from tests.test_strategies import MASK, Game

CYCLES = {"strategy": "slowfast", "threshold": 0.45, "cycle_confidence": 0.22, "k_exploration": 2, "gen_length": 16}
"""Values that tell tokens of a random model apart, so that there are several cycles."""


def play(confidence: list[list[float]], **options: Any) -> list[tuple[tuple[int, ...], int | None, list[int]]]:
    """Per forward: block, start and end of the region, the length if the canvas is cut, and the columns committed.

    The last list of confidences holds for all further forwards.
    """
    length = len(confidence[0])
    game = Game([1], strategy="slowfast", gen_length=length, **{"block_length": None, **options})
    game.confidence = lambda: torch.tensor([confidence[min(game.forward, len(confidence) - 1)]])  # type: ignore[method-assign]
    taken = []
    while (game.ids == MASK).any():
        plan, chosen = game.step()
        (region,) = plan.regions
        assert region is not None
        cut = None if plan.lengths is None else plan.lengths[0]
        taken.append((tuple(region), cut, chosen[0].nonzero().flatten().tolist()))
    return taken


def test_certain_tokens_take_one_forward_and_uncertain_ones_one_each() -> None:
    """The released code spends at least six forwards on a block."""
    assert [columns for _, _, columns in play([[0.99] * 32])] == [list(range(32))]
    slow = play([[0.2] * 32])
    assert [columns for _, _, columns in slow] == [[column] for column in range(32)]
    # six forwards per cycle, whose end is one behind its start
    assert [region for region, _, _ in slow][5:13:6] == [(0, 0, 32), (2, 1, 32)]
    assert all(cut is None for _, cut, _ in slow)


def test_cycles_by_hand() -> None:
    confidence = [
        [0.5, 0.4, 0.4, 0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2],  # the estimate is 4; the best is column 0
        [0.0, 0.4, 0.95, 0.2, 0.1, 0.92, 0.1, 0.1, 0.1, 0.2],  # 6; two are certain
        [0.0, 0.4, 0.0, 0.1, 0.1, 0.0, 0.1, 0.95, 0.95, 0.2],  # the cycle ends at their mean, 5: nothing behind it
        [0.0, 0.0, 0.0, 0.95, 0.9, 0.0, 0.1, 0.95, 0.95, 0.2],  # the same canvas, cut
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.25, 0.2],  # 5 + 1, because no mask is certain enough
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.0, 0.31],  # 10: the mean is 8
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9, 0.9, 0.0, 0.0],
    ]
    assert play(confidence, k_exploration=2) == [
        ((0, 0, 10), None, [0]),
        ((0, 0, 10), None, [2, 5]),
        ((1, 0, 5), None, [1]),
        ((1, 0, 5), 5, [3, 4]),
        ((2, 5, 10), None, [8]),
        ((2, 5, 10), None, [9]),
        ((3, 5, 8), None, [6, 7]),
    ]


def test_estimates_that_agree_fix_the_end() -> None:
    confidence = [[0.5] * 4 + [0.1] * 6, [0.1] * 3 + [0.5] + [0.1] * 6, [0.1] * 7 + [0.5] + [0.1] * 2, [0.1] * 10]
    # the estimates are 4, 4, 8; the third comes too late
    assert play(confidence, k_exploration=3)[3][0] == (1, 0, 4)
    # of three, the deviation is not below 1: int(16 / 3)
    assert play(confidence, k_exploration=3, window=3)[3][0] == (1, 0, 5)
    assert play(confidence, k_exploration=3, window=3, std=2.0)[3][0] == (1, 0, 8)


def test_the_rule_for_dream() -> None:
    options = {"rule": "dream", "cycle_confidence": 0.3, "slow_threshold": 0.8, "k_exploration": 1}
    # a missing estimate counts as 0: the mean of 0 and 7 is rounded to 4
    taken = play([[0.1] * 6 + [0.85] + [0.1] * 3, [0.1] * 10], **options)
    assert taken[1][0] == (1, 0, 4)
    # 0.8 is enough in slow forwards; two of at least 0.9 are needed in fast ones
    slow = [0.85, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.85]
    for fast, columns in ((0.85, [1]), (0.95, [1, 2, 3])):
        taken = play([slow, [0, *[fast] * 3, *[0.1] * 4]], **options)
        assert taken[:2] == [((0, 0, 8), None, [0, 7]), ((1, 0, 4), None, columns)]
    taken = play([slow, [0, *[0.95] * 3, *[0.1] * 4]], **options, slow_least=3, fast_least=4)
    assert [columns for _, _, columns in taken][:2] == [[0], [1]]


class Pairs(Strategy):
    """Commits the tokens above the threshold if there are two, else the best; block by block."""

    def commit(self, view: View) -> Tensor:
        score = view.confidence.masked_fill(~view.eligible, -torch.inf)
        passed = score >= (self.options.threshold or 0)
        best = torch.zeros_like(passed).scatter_(1, score.argmax(dim=1, keepdim=True), True)
        return view.eligible & torch.where(passed.sum(dim=1, keepdim=True) >= 2, passed, best)


def test_exploring_alone_decodes_blocks(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    for model in tiny_models.values():
        ours = decode(model, prompts, k_exploration=100, block_length=8)
        plain = {"gen_length": 16, "block_length": 8, "threshold": CYCLES["threshold"]}
        other = generate(model, prompts, strategy=f"{__name__}:Pairs", **plain)
        assert ours.nfe == other.nfe
        assert torch.equal(ours.tokens, other.tokens)


def decode(model: Transformer, prompts: list[list[int]], cache: str = "none", **options: Any) -> GenerationOutput:
    given = {"seed": 0, "block_length": None, **CYCLES, **options}
    return generate(model, prompts, cache, trace=True, **given)


def test_fast_forwards_run_what_stands_before_the_end(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    for model in tiny_models.values():
        out, start = decode(model, prompts), max(map(len, prompts))
        cut = 0
        for entry in out.trace or []:
            for b, (_, end), visible in zip(entry.active, entry.bounds, entry.visible, strict=True):
                if visible < len(prompts[b]) + 16:
                    assert visible == len(prompts[b]) + end - start
                    cut += 1
        assert cut > 2
        assert out.counts.compute_ratio == 1, "the canvas of these forwards is shorter, with a cache and without"
        assert out.lengths == [16] * 3


@pytest.mark.sampled(6)
@pytest.mark.parametrize("cache", [entry.name for entry in caches.entries()])
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_caches_decode_a_sequence_of_a_batch_like_alone(
    family: str, cache: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    model = tiny_models[family]
    if cache == "dkv_greedy":
        with pytest.raises(UsageError, match="DKVGreedyCache must know"):
            decode(model, prompts, cache)
        return
    batch, alone = decode(model, prompts, cache), decode(model, prompts[1:2], cache)
    assert (batch.tokens != model.config.mask_id).all()
    assert torch.equal(alone.tokens[0], batch.tokens[1])
    assert alone.nfe == batch.forwards[1]


def test_guidance_cuts_both_contexts(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    model = tiny_models["llada"]
    batch = decode(model, prompts, cfg_scale=0.5, threshold=0.8)
    assert min(entry.visible[entry.active.index(1)] for entry in batch.trace or [] if 1 in entry.active) < 16 + 5
    for number, prompt in enumerate(prompts):
        assert torch.equal(decode(model, [prompt], cfg_scale=0.5, threshold=0.8).tokens[0], batch.tokens[number])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k_exploration": 0}, "strategy parameter 'k_exploration' must be at least 1, not 0"),
        ({"window": 0}, "strategy parameter 'window' must be at least 1, not 0"),
        ({"fast_least": 0}, "strategy parameter 'fast_least' must be at least 1, not 0"),
        ({"cycle_confidence": 1.5}, "strategy parameter 'cycle_confidence' must be between 0 and 1, not 1.5"),
        ({"slow_threshold": -1.0}, "strategy parameter 'slow_threshold' must be between 0 and 1, not -1.0"),
        ({"std": -0.5}, "strategy parameter 'std' must not be negative, not -0.5"),
        ({"rule": "Dream"}, "unknown value of strategy parameter 'rule' 'Dream': did you mean 'dream'?"),
        ({"steps": 16}, "steps=16 does not go with strategy 'slowfast', which commits by thresholds of its own"),
        ({"factor": 1.0}, "factor=1.0 does not go with"),
        ({"alg": "entropy"}, "alg=entropy does not go with"),
        ({"first_forward": "first_token"}, "first_forward=first_token does not go with"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        GenerationOptions.make(strategy="slowfast", gen_length=16, block_length=None, **options)
    assert message in str(error.value)


CONTRACT = strategy_checks(
    "slowfast",
    {"threshold": 0.45, "cycle_confidence": 0.22, "k_exploration": 2, "block_length": 16},
    decoders=["blocks", "threshold", "sampling", "until-eos"],
)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("check", CONTRACT, ids=str)
def test_the_contract_of_strategies(check: StrategyCheck) -> None:
    check()
