"""EntropyCache: which forwards are full, and which rows run in the others."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor

from cache_zoo import Outcome, Step, UsageError, make_cache
from cache_zoo.methods.entropy import EntropyCache
from generation import GenerationOutput, generate
from generation.strategies.strategy import Edit, Strategy, View
from models import Transformer

LENGTH = 16
FAMILIES = ["llada", "dream"]


@dataclass
class Seen:
    """One forward of one sequence."""

    rows: list[int]
    masks: list[int]
    everything: list[int]
    committed: list[int]
    largest: float


class Watched(EntropyCache):
    """Notes what it was told and what it asked for."""

    def start(self, canvas: Any) -> None:
        super().start(canvas)
        self.seen: list[Seen] = []

    def rows(self, step: Step) -> Tensor | None:
        self.masks = (step.masked & step.block)[0].nonzero().flatten().tolist()
        return super().rows(step)

    def end_step(self, step: Step, outcome: Outcome) -> None:
        super().end_step(step, outcome)
        assert outcome.entropy is not None
        committed = outcome.committed[0]
        largest = float(outcome.entropy[0, committed].max()) if committed.any() else -1.0
        everything = step.canvas.valid[0].nonzero().flatten().tolist()
        rows = step.rows.positions()[0]
        self.seen.append(Seen(rows, self.masks, everything, committed.nonzero().flatten().tolist(), largest))


def decode(model: Transformer, cache: EntropyCache | str | None, **options: Any) -> GenerationOutput:
    return generate(model, [list(range(1, 8))], cache, gen_length=LENGTH, **options)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", [{"block_length": 4}, {"block_length": 8, "num_transfer_tokens": 3}], ids=str)
@pytest.mark.parametrize("recent_k", [0, 2, 100])
def test_rows_follow_entropy_and_recency(
    recent_k: int, options: dict[str, Any], family: str, tiny_models: dict[str, Transformer]
) -> None:
    always = Watched(-1.0, recent_k)
    decode(tiny_models[family], always, **options)
    threshold = median(seen.largest for seen in always.seen)
    cache = Watched(threshold, recent_k)
    decode(tiny_models[family], cache, **options)
    shift = int(family == "dream")
    full = True
    queue: list[int] = []
    for seen in cache.seen:
        recent = queue[:recent_k]
        expected = seen.everything if full else sorted({mask - shift for mask in seen.masks} | set(recent))
        assert seen.rows == expected
        full = seen.largest > threshold
        queue = seen.committed + queue
    assert len(cache.seen) >= 6
    assert {seen.largest > threshold for seen in cache.seen[:-1]} == {False, True}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_entropy_is_that_of_the_distributions(family: str, tiny_models: dict[str, Transformer]) -> None:
    model, found = tiny_models[family], []

    class Spy(EntropyCache):
        def end_step(self, step: Step, outcome: Outcome) -> None:
            super().end_step(step, outcome)
            logits = model.run(step.ids).logits.roll(step.canvas.shift, dims=0)  # of a batch of one, without padding
            probability = logits.double().softmax(dim=1)
            entropy = -(probability * probability.log()).sum(dim=1)
            live = outcome.live[0]
            assert outcome.entropy is not None
            found.append(live.sum().item())
            assert torch.allclose(outcome.entropy[0, live].double(), entropy[live], atol=1e-4)

    decode(model, Spy(threshold=-1.0), block_length=8, temperature=0.7, top_k=5, seed=1)
    assert sum(found) >= LENGTH


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unreachable_threshold_never_refreshes_and_a_negative_one_always(
    family: str, tiny_models: dict[str, Transformer]
) -> None:
    model = tiny_models[family]
    plain = decode(model, None, block_length=4)
    always = decode(model, make_cache("entropy", threshold=-1.0, recent_k=0), block_length=4)
    never = decode(model, make_cache("entropy", threshold=1e9), block_length=4)
    assert always.tokens.tolist() == plain.tokens.tolist()
    assert always.counts.rows == plain.counts.rows
    assert never.counts.compute_ratio < 0.5


def test_a_step_that_commits_nothing_asks_for_no_refresh(tiny_models: dict[str, Transformer]) -> None:
    cache = Watched(threshold=-1.0, recent_k=0)
    decode(tiny_models["llada"], cache, block_length=8, schedule="dream", steps=16)
    nothing = [number for number, seen in enumerate(cache.seen) if not seen.committed]
    assert nothing
    for number in nothing:
        assert cache.seen[number + 1].rows == cache.seen[number + 1].masks


class Writer(Strategy):
    """Decodes the first block, and in its third forward writes a token of its own into the last column."""

    def decide(self, view: View) -> Edit:
        best = view.confidence.masked_fill(~view.eligible, -torch.inf).argmax(dim=1)
        ids = view.ids.clone()
        ids[0, best] = view.tokens[0, best]
        if view.block_step == [2] and view.regions[0].block == 0:
            ids[0, -1] = 1
        return Edit(ids)


def test_a_token_without_a_distribution_asks_for_a_refresh(tiny_models: dict[str, Transformer]) -> None:
    cache = Watched(threshold=1e9, recent_k=0)
    decode(tiny_models["llada"], cache, block_length=4, strategy=f"{__name__}:Writer")
    full = [number for number, seen in enumerate(cache.seen) if seen.rows == seen.everything]
    assert full == [0, 3]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"threshold": float("nan")}, "'threshold' must be a number, not nan"),
        ({"recent_k": -1}, "'recent_k' must not be negative, not -1"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_cache("entropy", **parameters)
