"""Prophet: everything at once as soon as the answer is certain, and tokens that are there from the beginning."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cache_zoo import Cache, Outcome, Step, UsageError
from generation import GenerationOptions, generate
from generation.selection import quota
from generation.strategies.prophet import Prophet
from generation.strategies.strategy import Board, Edit, Region, Strategy, View
from generation.testing import StrategyCheck, strategy_checks
from models import Transformer

SHORT: dict[str, Any] = {"gen_length": 16, "block_length": 4}
NEVER = {"early": 1e9, "mid": 1e9, "late": 1e9}
ALWAYS = {"early": 0.0, "mid": 0.0, "late": 0.0}
OWN: dict[str, Any] = {"strategy": "prophet", "answer_start": 10, "answer_length": 3}


@pytest.mark.parametrize("options", [{}, {"steps": 8}, {"num_transfer_tokens": 2, "alg": "entropy"}], ids=str)
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_the_limits(
    options: dict[str, Any], family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    model = tiny_models[family]
    expected = generate(model, prompts, **SHORT, **options)
    for own in ({**OWN, **NEVER}, {"strategy": "prophet", **ALWAYS}):  # without an answer there is no exit
        out = generate(model, prompts, **SHORT, **options, **own)
        assert torch.equal(out.tokens, expected.tokens)
        assert out.forwards == expected.forwards
    at_once = generate(model, prompts, **SHORT, **options, **OWN, **ALWAYS)
    whole = generate(model, prompts, gen_length=16, block_length=16, num_transfer_tokens=16)
    assert torch.equal(at_once.tokens, whole.tokens)
    assert at_once.nfe == 1


@pytest.mark.parametrize("family", ["llada", "dream"])
@pytest.mark.parametrize("start", [0, 10, 14])
def test_the_gap_is_that_of_the_logits(
    family: str, start: int, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    """After two forwards, of which one has written into the answer where it begins the canvas."""
    model, prompt = tiny_models[family], prompts[0]
    own = {"strategy": "prophet", "answer_start": start, "answer_length": 4}
    trace = generate(model, [prompt], **SHORT, trace=True).trace
    assert trace is not None
    canvas = trace[1].canvas[0].tolist()
    logits = model.run(torch.tensor([prompt + canvas])).logits
    places = len(prompt) - model.config.shift + torch.arange(start, min(start + 4, 16))
    best = logits[places].topk(2, dim=1).values
    gap = float((best[:, 0] - best[:, 1]).mean())
    limits = {**NEVER, "early": gap}
    before = max(_gaps(model, prompt, start, [[model.config.mask_id] * 16, trace[0].canvas[0].tolist()]))
    if before < gap:
        below = generate(model, [prompt], **SHORT, **own, **{**limits, "early": gap - 1e-4})
        assert below.nfe == 3
    assert generate(model, [prompt], **SHORT, **own, **{**limits, "early": max(gap, before) + 1e-4}).nfe > 3


def _gaps(model: Transformer, prompt: list[int], start: int, canvases: list[list[int]]) -> list[float]:
    found = []
    for canvas in canvases:
        logits = model.run(torch.tensor([prompt + canvas])).logits
        places = len(prompt) - model.config.shift + torch.arange(start, min(start + 4, 16))
        best = logits[places].topk(2, dim=1).values
        found.append(float((best[:, 0] - best[:, 1]).mean()))
    return found


def test_the_limit_falls_with_the_schedule() -> None:
    options = GenerationOptions(gen_length=16, block_length=8, num_transfer_tokens=2)  # 8 forwards
    strategy = Prophet(options, early=3.0, mid=2.0, late=1.0)
    limits = []
    for number in range(8):
        empty = torch.zeros(1, 16, dtype=torch.bool)
        regions = [Region(number // 4, 0, 0)]
        view = View(
            empty,
            empty,
            empty,
            empty,
            [number % 4],
            regions,
            empty,
            empty,
            empty,
            empty,
            None,
            None,
            [0],
            mask_id=0,
            eos_id=0,
        )
        limits += strategy._limits(view).tolist()
    assert limits == [3.0, 3.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0]  # thirds: 1/8 and 2/8; to 5/8; from 6/8 on


def test_a_cache_that_runs_a_block_decides_where_it_runs_everything(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    for start in (10, 4):  # behind the block, or inside, where its rows run in every forward
        own = {**OWN, "answer_start": start, **ALWAYS, "early": 1e9}
        out = generate(tiny_models["llada"], prompts[:1], "dual", **SHORT, **own, trace=True)
        # the schedule's 6th forward is the first that may, the 9th the first of all rows
        assert [int(entry.committed.sum()) for entry in out.trace or []] == [1] * 8 + [8]


def test_caches_see_the_logits_of_masks_alone(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    seen = []

    class Watched(Cache):
        def end_step(self, step: Step, outcome: Outcome) -> None:
            seen.append(bool((outcome.live & ~step.masked).any()))
            assert torch.equal(outcome.live, outcome.confidence.isfinite())
            assert outcome.live.sum() == step.masked.sum()  # all of them are wanted

    generate(tiny_models["llada"], prompts[:2], Watched(), **SHORT, **{**OWN, "answer_start": 0}, **NEVER)
    assert seen == [False] * 16


@pytest.mark.parametrize("cache", ["none", "dual", "dkv"])
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_constraints_stay(
    cache: str, family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    own = {"strategy": "prophet", "constraints": {5: 7, "6": 8, 11: 9}, **NEVER}
    out = generate(tiny_models[family], prompts, cache, **SHORT, **own, trace=True)
    assert out.tokens[:, [5, 6, 11]].tolist() == [[7, 8, 9]] * 3
    assert out.nfe == 13
    assert not torch.stack([entry.committed[:, [5, 6, 11]] for entry in out.trace or []]).any()
    for number, prompt in enumerate(prompts):
        assert torch.equal(generate(tiny_models[family], [prompt], cache, **SHORT, **own).tokens[0], out.tokens[number])
    whole = {"strategy": "prophet", "constraints": dict.fromkeys(range(4), 3), **NEVER}
    assert generate(tiny_models[family], prompts[:1], cache, **SHORT, **whole).nfe == 12  # its block is left out


def test_constraints_lower_the_schedule_of_their_block(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    own = {"strategy": "prophet", "constraints": {1: 7, 2: 8, 3: 9}, "gen_length": 16, "block_length": 8, "steps": 4}
    out = generate(tiny_models["llada"], prompts[:1], **own, trace=True)
    assert [int(entry.committed.sum()) for entry in out.trace or []] == [3, 2, 4, 4]
    options = GenerationOptions(gen_length=16, block_length=16, steps=16)
    assert [quota(options, forwards, 16 - forwards, given=14) for forwards in range(3)] == [1, 1, 1]


def test_the_answer_follows_the_constraints() -> None:
    options = GenerationOptions(gen_length=32)
    assert Prophet(options, constraints={4: 1, 9: 1}).answer == slice(11, 16)
    assert Prophet(options, constraints={31: 1}).answer == slice(31, 32)
    assert Prophet(options, constraints={4: 1}, answer_start=20, answer_length=40).answer == slice(20, 32)
    assert Prophet(options).answer is None


class Beginning(Strategy):
    """Begins with one token that no model has."""

    def start(self, board: Board) -> Edit:
        return Edit(board.ids.index_fill(1, torch.tensor([0]), 10_000))


def test_a_beginning_outside_the_vocabulary_is_refused(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    with pytest.raises(UsageError, match="Beginning begins with a token id outside the vocabulary of 260"):
        generate(tiny_models["llada"], prompts, strategy=f"{__name__}:Beginning", **SHORT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answer_start": 16}, "'answer_start' must be at least 0 and less than gen_length, 16, not 16"),
        ({"answer_start": 1.5}, "'answer_start' must be a whole number or null, not 1.5"),
        ({"answer_length": 0}, "'answer_length' must be at least 1, not 0"),
        ({"constraints": [1]}, "'constraints' must be an object or null, not [1]"),
        ({"constraints": {16: 1}}, "'constraints' has offset 16 outside of gen_length 16"),
        ({"constraints": {-1: 1}}, "'constraints' holds -1, which is no offset or token id"),
        ({"constraints": {1: "the"}}, "'constraints' holds 'the', which is no offset or token id"),
        ({"threshold": 0.9}, "threshold=0.9 does not go with strategy 'prophet', which has a rule of its own"),
        ({"alg": "random"}, "alg=random does not go"),
    ],
)
def test_wrong_parameters_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        GenerationOptions.make(strategy="prophet", **SHORT, **options)
    assert message in str(error.value)


SOON = {"answer_start": 9, "early": 0.9, "mid": 0.7, "late": 0.4}
CONTRACT = [
    *strategy_checks("prophet", SOON, decoders=["steps", "sampling", "until-eos", "guided"]),
    *strategy_checks("prophet", {"constraints": {9: 5, 10: 6}, **ALWAYS}, decoders=["blocks"]),
]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("check", CONTRACT, ids=str)
def test_the_contract_of_strategies(check: StrategyCheck) -> None:
    check()
