"""KLASS: likely tokens whose distribution has stopped to change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from cache_zoo import Cache, Canvas, UsageError
from generation import GenerationOptions, generate
from generation.strategies.klass import Klass
from generation.strategies.strategy import Board, Region, View
from generation.testing import StrategyCheck, strategy_checks
from models import Transformer

SMALL = {"strategy": "klass", "gen_length": 16, "block_length": 8}


def view_of(probabilities: list[list[float]], masked: list[bool], step: int) -> View:
    """Of one sequence: distributions over three tokens at each masked position."""
    mask = torch.tensor([masked])
    logits = torch.tensor([row for row, some in zip(probabilities, masked, strict=True) if some]).log()
    best, tokens = logits.softmax(dim=1).max(dim=1)
    return View(
        eligible=mask,
        confidence=torch.full(mask.shape, -torch.inf).masked_scatter(mask, best),
        masked=mask,
        open=mask,
        block_step=[step],
        regions=[Region(0, 0, mask.shape[1])],
        ids=torch.full(mask.shape, 3),
        tokens=torch.zeros_like(mask, dtype=torch.long).masked_scatter(mask, tokens),
        live=mask,
        ran=mask,
        logits=logits,
        left_out=None,
        seeds=[0],
        mask_id=3,
        eos_id=None,
    )


def test_by_hand() -> None:
    options = GenerationOptions(gen_length=4, block_length=4)
    strategy = Klass(options, conf_threshold=0.65, kl_threshold=0.05, history=2)
    masked = [True] * 4
    mask = torch.tensor([masked])
    strategy.start(Board(mask.long(), mask, mask, None, [0], [0]))
    forwards = [
        [[0.90, 0.05, 0.05], [0.7, 0.2, 0.1], [0.4, 0.3, 0.3], [0.3, 0.60, 0.10]],
        [[0.90, 0.05, 0.05], [0.7, 0.2, 0.1], [0.4, 0.3, 0.3], [0.7, 0.2, 0.1]],
        [[0.90, 0.05, 0.05], [0.7, 0.2, 0.1], [0.4, 0.3, 0.3], [0.7, 0.2, 0.1]],
        [[0.90, 0.05, 0.05], [0.7, 0.2, 0.1], [0.4, 0.3, 0.3], [0.7, 0.2, 0.1]],
    ]
    # two divergences first; then 1 is likely and stable, 2 stable but not likely, 3 has changed; then 3 has not, twice
    expected = [[0], [1], [3], [2]]
    taken = []
    for step, probabilities in enumerate(forwards):
        view = view_of(probabilities, masked, step)
        strategy._least, strategy._forwards = [1], [step]
        chosen = strategy.commit(view)[0].nonzero().flatten().tolist()
        taken.append(chosen)
        masked = [some and at not in chosen for at, some in enumerate(masked)]
    assert taken == expected
    divergence = torch.tensor([0.7, 0.2, 0.1]) @ (torch.tensor([0.7, 0.2, 0.1]) / torch.tensor([0.3, 0.6, 0.1])).log()
    other = Klass(options, conf_threshold=0.65, kl_threshold=1.0, history=1)
    other.start(Board(mask.long(), mask, mask, None, [0], [0]))
    for step in range(2):
        other._least = [1]
        last = other.commit(view_of(forwards[step], [True] * 4, step))
    assert last[0].tolist() == [True, True, False, True]
    torch.testing.assert_close(other._kl[0, :, -1], torch.tensor([0.0, 0.0, 0.0, float(divergence)]))


def test_what_it_remembers_leaves_with_its_sequence() -> None:
    strategy = Klass(GenerationOptions(gen_length=2, block_length=2), history=1)
    mask = torch.ones(3, 2, dtype=torch.bool)
    strategy.start(Board(mask.long(), mask, mask, None, [0] * 3, [0, 1, 2]))
    view = view_of([[0.5, 0.3, 0.2], [0.6, 0.3, 0.1]], [True, True], 0)
    logits = torch.arange(18.0).reshape(6, 3)
    live = torch.tensor([[True, True], [False, True], [True, True]])
    strategy._remember(logits[:5], replace(view, live=live, masked=mask))
    strategy._kl = torch.arange(6.0).reshape(3, 2, 1)
    strategy.drop_finished(torch.tensor([1, 2]))
    assert strategy._last is not None
    assert strategy._last.values.tolist() == logits[2:5].tolist()
    assert strategy._last.places.tolist() == live[1:].tolist()
    assert strategy._kl.flatten().tolist() == [2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_without_stable_tokens_it_is_the_fixed_number(
    family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    model, number = tiny_models[family], {"num_transfer_tokens": 2}
    expected = generate(model, prompts, gen_length=16, block_length=8, **number)
    for own in ({"kl_threshold": 0.0, "conf_threshold": 0.0}, {"kl_threshold": 1e9, "conf_threshold": 1.0}):
        out = generate(model, prompts, **SMALL, **number, **own)
        assert torch.equal(out.tokens, expected.tokens)
        assert out.forwards == expected.forwards


@pytest.mark.parametrize(
    ("own", "forwards"),
    [
        ({"history": 1}, [1, 7, 8]),  # the next block has a history when it begins
        ({"history": 2}, [1, 1, 6, 8]),
        ({"history": 1, "guard": "block"}, [1, 7, 8]),
        ({"history": 2, "guard": "block"}, [1, 1, 6, 1, 7]),
        ({"history": 1, "block_length": 2}, [1, 1, 2, 2, 2, 2, 2, 2, 2]),
        ({"history": 3, "block_length": 2}, [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]),
        ({"history": 1, "unmask": "min_kl"}, [1] * 16),
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_where_everything_is_stable(
    own: dict[str, Any], forwards: list[int], family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    everything = {"kl_threshold": 1e9, "conf_threshold": 0.0}
    out = generate(tiny_models[family], prompts[:1], **{**SMALL, **everything, **own}, trace=True)
    assert [int(entry.committed.sum()) for entry in out.trace or []] == forwards


def test_rows_that_do_not_run_have_no_history(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    """With the dual cache later blocks run in the first forward of a block only."""
    own = {"kl_threshold": 1e9, "conf_threshold": 0.0, "history": 1}
    out = generate(tiny_models["llada"], prompts[:1], "dual", **SMALL, **own, trace=True)
    assert [int(entry.committed.sum()) for entry in out.trace or []] == [1, 7, 1, 7]


def test_one_stable_token_per_forward(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    def order(unmask: str, seed: int = 0) -> list[int]:
        own = {"kl_threshold": 1e9, "conf_threshold": 0.0, "history": 1, "unmask": unmask, "seed": seed}
        out = generate(tiny_models["llada"], prompts[:1], **SMALL, **own, trace=True)
        return [int(entry.committed[0].nonzero()) for entry in out.trace or []]

    most = generate(tiny_models["llada"], prompts[:1], gen_length=16, block_length=8, trace=True)
    assert order("max_conf") == [int(entry.committed[0].nonzero()) for entry in most.trace or []]
    assert order("min_kl") != order("max_conf")
    assert order("random") == order("random") != order("random", seed=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conf_threshold": 1.5}, "strategy parameter 'conf_threshold' must be between 0 and 1, not 1.5"),
        ({"kl_threshold": -0.1}, "strategy parameter 'kl_threshold' must not be negative, not -0.1"),
        ({"history": 0}, "strategy parameter 'history' must be at least 1, not 0"),
        ({"history": 1.5}, "'history' must be a whole number, not 1.5"),
        ({"unmask": "max"}, "unknown value of strategy parameter 'unmask' 'max': did you mean 'max_conf'?"),
        ({"guard": "blocks"}, "unknown value of strategy parameter 'guard' 'blocks': did you mean 'block'?"),
        (
            {"threshold": 0.9},
            "threshold=0.9 does not go with strategy 'klass', which has a rule of its own; leave it out",
        ),
        ({"gamma": 0.1}, "gamma=0.1 does not go"),
        ({"alg": "random"}, "alg=random does not go"),
        ({"alg": "ar"}, "alg=ar does not go"),
    ],
)
def test_wrong_parameters_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        GenerationOptions.make(**SMALL, **options)
    assert message in str(error.value)


def test_caches_know_that_no_schedule_counts_the_forwards(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    seen = []

    class Watched(Cache):
        def start(self, canvas: Canvas) -> None:
            super().start(canvas)
            seen.append(canvas.steps)

    for strategy in ("vanilla", "klass", "hierarchy", "credit"):
        generate(tiny_models["llada"], prompts[:1], Watched(), **{**SMALL, "strategy": strategy})
    assert seen == [16, None, None, 16]


LOOSE = {"conf_threshold": 0.0, "kl_threshold": 0.2, "history": 1}
CONTRACT = strategy_checks("klass", LOOSE, {**LOOSE, "unmask": "random"}, decoders=["blocks", "sampling", "until-eos"])
CONTRACT += strategy_checks("klass", decoders=["steps", "margin", "guided", "entropy"])[:8]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("check", CONTRACT, ids=str)
def test_the_contract_of_strategies(check: StrategyCheck) -> None:
    check()
