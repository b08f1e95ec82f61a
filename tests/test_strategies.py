"""Strategies: their plans, what they commit and their own parameters."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from cache_zoo import UsageError
from generation import GenerationOptions, generate
from generation.strategies.registry import strategies
from generation.strategies.strategy import Board, Plan, Region, Strategy, View
from generation.testing import StrategyCheck, strategy_checks
from models import Transformer

MASK = 99
PAGE = Path(__file__).resolve().parents[1] / "docs" / "strategies.md"


class Game:
    """Decodes without a model: confidences are drawn, every row runs."""

    def __init__(self, seeds: list[int], **options: Any) -> None:
        self.options = GenerationOptions.make(**options)
        self.strategy: Strategy = strategies.make(
            self.options.strategy, options=self.options, **self.options.parameters
        )
        self.seeds, self.length = seeds, self.options.gen_length
        self.ids = torch.full((len(seeds), self.length), MASK)
        self.regions: list[Region] | None = None
        self.block_step = [0] * len(seeds)
        self.forward = 0
        self.strategy.start(self.board())

    def board(self) -> Board:
        masked = self.ids == MASK
        return Board(
            ids=self.ids,
            masked=masked,
            open=masked,
            regions=self.regions,
            block_step=list(self.block_step),
            seeds=list(self.seeds),
        )

    def confidence(self) -> Tensor:
        """Of each sequence by its seed and the forward, so a batch has those of its sequences."""
        drawn = [
            torch.rand(self.length, generator=torch.Generator().manual_seed(1000 * seed + self.forward))
            for seed in self.seeds
        ]
        return torch.stack(drawn)

    def step(self) -> tuple[Plan, Tensor]:
        """One forward: its plan and what it committed."""
        assert self.forward < 200, "it does not end"
        plan = self.strategy.plan(self.board())
        kept = [b for b, region in enumerate(plan.regions) if region is not None]
        assert len(kept) == len(plan.regions), "drop the finished ones first"
        regions = [region for region in plan.regions if region is not None]
        before = self.regions
        for b, region in enumerate(regions):
            if before is None or before[b].block != region.block:
                self.block_step[b] = 0
        masked, confidence = self.ids == MASK, self.confidence()
        eligible = torch.zeros_like(masked)
        for b, region in enumerate(regions):
            eligible[b, region.start : region.end] = masked[b, region.start : region.end]
        if plan.candidates is not None:
            eligible &= plan.candidates
        view = View(
            eligible=eligible,
            confidence=confidence.masked_fill(~masked, -torch.inf),
            masked=masked,
            open=masked,
            block_step=list(self.block_step),
            regions=regions,
            ids=self.ids,
            tokens=torch.zeros_like(self.ids),
            live=masked,
            ran=torch.ones_like(masked),
            logits=None,
            left_out=None,
            seeds=self.seeds,
            mask_id=MASK,
            eos_id=98,
        )
        committed = self.strategy.decide(view)
        assert isinstance(committed, Tensor)
        assert not (committed & ~eligible).any()
        self.ids = torch.where(committed, 0, self.ids)
        self.regions, self.forward = regions, self.forward + 1
        self.block_step = [steps + 1 for steps in self.block_step]
        return plan, committed

    def drop(self, kept: list[int]) -> None:
        index = torch.tensor(kept)
        self.ids, self.seeds = self.ids[index], [self.seeds[b] for b in kept]
        self.block_step = [self.block_step[b] for b in kept]
        self.regions = None if self.regions is None else [self.regions[b] for b in kept]
        self.strategy.drop_finished(index)

    def play(self) -> list[tuple[Plan, Tensor]]:
        """All forwards of one sequence."""
        taken = []
        while (self.ids == MASK).any():
            taken.append(self.step())
        assert self.strategy.plan(self.board()).regions == [None]
        return taken


def committed(game: Game) -> list[list[int]]:
    """Columns that each forward of the only sequence commits."""
    return [chosen[0].nonzero().flatten().tolist() for _, chosen in game.play()]


OPTIONS: list[dict[str, Any]] = [
    {"block_length": 4, "steps": 8, "schedule": "dream"},
    {"block_length": 4, "steps": 8, "schedule": "dream_canvas", "alg_temp": 0.3},
    {"block_length": 8, "steps": 4, "alg": "random"},
    {"block_length": 8, "steps": 8, "schedule": "dream", "alg": "origin"},
    {"block_length": 8, "threshold": 0.9, "alpha": 0.5},
    {"block_length": 8, "first_forward": "first_token", "num_transfer_tokens": 2},
    {"strategy": "window", "window": 3, "block_length": None, "num_transfer_tokens": 2},
    {"strategy": "window", "window": 5, "block_length": None, "steps": 10, "schedule": "dream", "alg_temp": 1.0},
    {"strategy": "sliding", "block_length": 4, "threshold": 0.7},
    {"strategy": "sliding", "block_length": 4, "max_block_length": 4, "steps": 12},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_batch_commits_what_its_sequences_commit_alone(options: dict[str, Any]) -> None:
    """While sequences leave it; and every position is committed once."""
    options = {"gen_length": 16, **options}
    seeds = [5, 6, 7]
    alone = {seed: [chosen[0] for _, chosen in Game([seed], **options).play()] for seed in seeds}
    assert all(torch.stack(chosen).sum(dim=0).eq(1).all() for chosen in alone.values())
    batch, forward = Game(seeds, **options), 0
    while (batch.ids == MASK).any():
        left = (batch.ids == MASK).any(dim=1).tolist()
        if not all(left):
            batch.drop([b for b, some in enumerate(left) if some])
        _, chosen = batch.step()
        for b, seed in enumerate(batch.seeds):
            assert torch.equal(chosen[b], alone[seed][forward]), (seed, forward)
        forward += 1


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_what_a_plan_knows_comes_true(options: dict[str, Any]) -> None:
    game, idle = Game([8], **{"gen_length": 16, **options}), 0
    while (game.ids == MASK).any():
        plan, chosen = game.step()
        assert (plan.planned is not None) == (game.options.alg in ("random", "origin"))
        assert plan.planned is None or torch.equal(plan.planned > 0, chosen)
        idle = 0 if chosen.any() else idle + 1
        assert idle < max(game.strategy.patience, 1)
        assert (plan.last is not None) == game.options.counted
        (region,) = plan.regions
        assert plan.last in (None, [not (game.ids[0, region.start : region.end] == MASK).any()])


def test_dreams_schedule_restarts_in_each_block() -> None:
    options = {"gen_length": 16, "block_length": 8, "steps": 16, "schedule": "dream"}
    assert [len(columns) for columns in committed(Game([1], **options))] == [0, 1, 1, 1, 1, 1, 1, 2] * 2
    whole = Game([1], **options, strategy="window", window=16)
    assert [len(columns) for columns in committed(whole)] == [0] + [1] * 14 + [2]
    assert whole.strategy.patience == 16


def test_a_threshold_commits_something_where_the_schedule_commits_nothing() -> None:
    options = {"gen_length": 16, "block_length": 8, "steps": 16, "schedule": "dream", "threshold": 2.0}
    game = Game([1], **options)
    assert [len(columns) for columns in committed(game)] == [1, 1, 1, 1, 1, 1, 1, 1] * 2
    assert game.strategy.patience == 1


def test_the_first_forward_of_a_block_commits_its_first_token() -> None:
    options = {"gen_length": 16, "block_length": 8, "first_forward": "first_token"}
    for extra in ({"threshold": 0.0}, {"num_transfer_tokens": 7}, {"steps": 2}, {"steps": 2, "schedule": "dream"}):
        taken = committed(Game([1], **options, **extra))
        assert taken == [[0], [1, 2, 3, 4, 5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15]]
    plan, _ = Game([1], **options).step()
    assert plan.candidates is not None
    assert plan.candidates[0].nonzero().flatten().tolist() == [0]
    assert plan.last == [False]


def test_a_random_order_is_that_of_one_draw() -> None:
    options = {"gen_length": 64, "block_length": 64, "alg": "random"}

    def order(seed: int) -> list[list[int]]:
        return committed(Game([seed], **options, num_transfer_tokens=8))

    assert order(1) == order(1)
    assert order(1) != order(2)
    first = Game(list(range(300)), **options).step()[1].int().argmax(dim=1)
    assert abs(first.float().mean() - 31.5) < 4  # no column is preferred
    assert len(set(first.tolist())) > 55


def test_origin_commits_each_mask_with_the_probability_of_the_schedule() -> None:
    options = {"gen_length": 64, "block_length": 64, "steps": 4, "schedule": "dream", "alg": "origin", "eps": 0.2}
    game = Game(list(range(150)), **options)
    taken = torch.stack([game.step()[1].float().mean() for _ in range(4)])
    torch.testing.assert_close(taken, torch.tensor([0.2, 0.2, 0.2, 0.4]), atol=0.015, rtol=0)


def test_alg_temp_draws_in_proportion_to_the_exponential_of_confidence() -> None:
    confidence = torch.tensor([0.9, 0.5, 0.1, 0.0])
    game = Game(list(range(3000)), gen_length=4, block_length=4, alg_temp=0.4)
    game.confidence = lambda: confidence.expand(3000, 4)  # type: ignore[method-assign]
    _, first = game.step()
    torch.testing.assert_close(first.float().mean(dim=0), (confidence / 0.4).softmax(dim=0), atol=0.03, rtol=0)
    _, second = game.step()  # drawn anew: of those that began with the best, as the rest is weighted
    others = second[first[:, 0]].float().mean(dim=0)
    torch.testing.assert_close(others[1:], (confidence[1:] / 0.4).softmax(dim=0), atol=0.04, rtol=0)


def test_a_low_alg_temp_takes_the_most_confident() -> None:
    options = {"gen_length": 16, "block_length": 8}
    assert committed(Game([3], **options, alg_temp=0.001)) == committed(Game([3], **options))


def test_the_dynamic_threshold_is_that_of_the_masks_left() -> None:
    """By hand: the first forward compares with 0.8; the second, with 3 of 4 masks left, with 0.8 * (1 - 0.5 / 4)."""
    game = Game([1], gen_length=4, block_length=4, threshold=0.8, alpha=0.5)
    game.confidence = lambda: torch.tensor([[0.75, 0.79, 0.71, 0.69]])  # type: ignore[method-assign]
    assert committed(game) == [[1], [0, 2], [3]]


def test_the_window_is_the_first_masks_wherever_they_are() -> None:
    game = Game([4], gen_length=16, block_length=None, strategy="window", window=5)
    seen: list[Region] = []
    while (game.ids == MASK).any():
        masks = (game.ids[0] == MASK).nonzero().flatten().tolist()
        plan, _ = game.step()
        assert plan.candidates is not None
        assert plan.candidates[0].nonzero().flatten().tolist() == masks[:5]
        (region,) = plan.regions
        assert region is not None
        assert (region.start, region.end) == (masks[0], masks[:5][-1] + 1)
        seen.append(region)
    assert any(b.start > a.start and b.end > a.end for a, b in pairwise(seen))
    for earlier, later in pairwise(seen):
        assert later.block - earlier.block == (earlier[1:] != later[1:])


def bounds(game: Game, confidence: list[float]) -> list[tuple[int, int]]:
    game.confidence = lambda: torch.tensor([confidence])  # type: ignore[method-assign]
    return [(region.start, region.end) for plan, _ in game.play() for region in plan.regions if region is not None]


def test_the_sliding_block_by_hand() -> None:
    confidence = [0.1, 0.9, 0.9, 0.2, 0.9, 0.1, 0.9, 0.1, 0.1, 0.2]
    options = {"strategy": "sliding", "gen_length": 10, "block_length": 5, "threshold": 0.5}
    # columns 1, 2 and 4 first; then [0, 8): 6; then [0, 9): the best is 3; then [0, 10): 9, 0, 5, 7, 8
    greedy = [(0, 5), (0, 8), (0, 9), (0, 10), (0, 10), (5, 10), (7, 10), (8, 10)]
    assert bounds(Game([1], **options), confidence) == greedy
    # at most three columns: 1 and 2; then [0, 3): 0; then [3, 6): 4; [3, 6): 3; [5, 8): 6; 5; [7, 10): 9, 7, 8
    const = [(0, 3), (0, 3), (3, 6), (3, 6), (5, 8), (5, 8), (7, 10), (7, 10), (8, 10)]
    assert bounds(Game([1], **options, max_block_length=3), confidence) == const


def test_a_sliding_block_without_a_threshold_follows_the_schedule_of_the_canvas() -> None:
    taken = committed(Game([2], strategy="sliding", gen_length=12, block_length=4, steps=9))
    assert [len(columns) for columns in taken] == [2, 2, 2, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "window", "window": 0}, "strategy parameter 'window' must be at least 1, not 0"),
        ({"strategy": "window", "window": "8"}, "'window' must be a whole number, not '8'"),
        ({"strategy": "window", "windw": 8}, "unknown generation option 'windw': did you mean 'window'?"),
        ({"window": 8}, "unknown generation option 'window'"),
        ({"strategy": "sliding", "max_block_length": 0}, "must be at least 1, not 0; null sets no limit"),
        ({"strategy": "sliding", "max_block_length": 1.5}, "must be a whole number or null, not 1.5"),
        ({"strategy": "sliding", "first_forward": "first_token"}, "needs blocks, and strategy 'sliding' has none"),
        ({"parameters": {"window": 8}}, "unknown generation option 'parameters'"),
        ({"options": 1}, "unknown generation option 'options'"),
        ({"strategy": "my_strategies:Clash"}, "'my_strategies:Clash' has a parameter 'sigma', which is the name of a"),
    ],
)
def test_wrong_parameters_are_named(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clash(Strategy):
        def __init__(self, options: GenerationOptions, sigma: float = 1.0) -> None:
            super().__init__(options)

    module = ModuleType("my_strategies")
    module.Clash = Clash  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_strategies", module)
    with pytest.raises(UsageError) as error:
        GenerationOptions.make(gen_length=32, block_length=8, **options)
    assert message in str(error.value)


def test_options_and_parameters_go_flat_both_ways() -> None:
    options = GenerationOptions.make(strategy="window", window=4, threshold=0.9)
    assert options.parameters == {"window": 4}
    keywords = options.as_keywords()
    assert (keywords["window"], keywords["threshold"], keywords["steps"]) == (4, 0.9, None)
    assert "parameters" not in keywords
    assert GenerationOptions.make(**keywords) == options
    assert GenerationOptions.make(strategy="window").parameters == {}
    assert hash(options) != hash(GenerationOptions.make())


CONTRACT = [
    *strategy_checks("window", {"window": 3}),
    *strategy_checks("sliding", {"max_block_length": 4}, decoders=["blocks", "threshold", "until-eos"]),
]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("check", CONTRACT, ids=str)
def test_the_contract_of_strategies(check: StrategyCheck) -> None:
    check()


@pytest.fixture
def my_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The examples of docs/strategies.md."""
    module = ModuleType("my_module")
    for example in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(example, module.__dict__)
    monkeypatch.setitem(sys.modules, "my_module", module)
    return module


def test_the_examples_of_the_page_do_what_they_say(my_module: ModuleType) -> None:
    options = {"gen_length": 8, "block_length": 4}
    assert committed(Game([1], strategy="my_module:LeftToRight", num_transfer_tokens=3, **options)) == [
        [0, 1, 2],
        [3],
        [4, 5, 6],
        [7],
    ]
    assert committed(Game([1], strategy="my_module:FromTheEnd", **options)) == [[4, 5, 6, 7], [0, 1, 2, 3]]
    cautious = Game([1], strategy="my_module:Cautious", margin=0.1, gen_length=4, block_length=None)
    cautious.confidence = lambda: torch.tensor([[0.9, 0.5, 0.85, 0.45]])  # type: ignore[method-assign]
    assert committed(cautious) == [[0, 2], [1, 3]]
    with pytest.raises(UsageError, match="'margin' must be between 0 and 1, not 2"):
        GenerationOptions.make(strategy="my_module:Cautious", margin=2)
    (table,) = re.findall(r"(?s)\| `view\.` \|.*?\n\n", PAGE.read_text())
    named = set(re.findall(r"`(\w+)`", re.sub(r"(?m)\|[^|]*\|[^|]*\|$", "", table)))
    assert named - {"view"} == {field.name for field in fields(View)} - {"logits", "left_out"}
    (table,) = re.findall(r"(?s)A `Plan` has\n\n(.*?)\n\n", PAGE.read_text())
    assert set(re.findall(r"(?m)^\| `(\w+)`", table)) == {field.name for field in fields(Plan)}
    strategies_named = set(re.findall(r"(?m)^\| `(\w+)` \| (?:the |from the)", PAGE.read_text()))
    assert strategies_named == {entry.name for entry in strategies.entries() if entry.package is None}


def test_the_example_that_takes_tokens_back(my_module: ModuleType, tiny_models: dict[str, Transformer]) -> None:
    prompts = [[5, 6, 7], [8] * 9]
    options = {"gen_length": 8, "block_length": 4, "strategy": "my_module:SecondThoughts"}
    for model in tiny_models.values():
        out = generate(model, prompts, "d2cache", trace=True, **options)
        assert out.forwards == [10, 10]
        revoked = [int(entry.revoked.sum()) for entry in out.trace or [] if entry.revoked is not None]
        assert sum(revoked) == 4
        for number, prompt in enumerate(prompts):
            assert generate(model, [prompt], "d2cache", **options).tokens[0].equal(out.tokens[number])


class Leaky(Strategy):
    """Commits as many positions of each sequence as there are sequences.

    Args:
        options: of the generation.
        limit: not explained
            any further.
    """

    paper = "made up"

    def __init__(self, options: GenerationOptions, limit: int = 3, other: int = 2) -> None:
        super().__init__(options)

    def commit(self, view: View) -> Tensor:
        return view.eligible & (view.eligible.cumsum(dim=1) <= len(view.seeds))


class Nameless(Leaky):
    """Not a word on where it comes from."""

    paper = ""


def test_the_contract_finds_broken_strategies() -> None:
    def broken(name: str) -> str:
        with pytest.raises(AssertionError) as error:
            strategy_checks(f"{__name__}:{name}")[0]()
        return str(error.value)

    assert broken("Nameless").startswith("'paper' is empty")
    assert broken("Leaky") == "parameter 'other' is not explained in the docstring"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Leaky, "__init__", Strategy.__init__)
        assert broken("Leaky") == "sequence 0 of a batch that runs all rows differs from decoding it alone"
