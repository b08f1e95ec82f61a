"""DAEDAL: how far the canvas grows, where, and what caches make of it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from cache_zoo import UsageError, caches, make_cache
from evaluation.config.command_line import cells
from evaluation.report.check import check_run
from evaluation.run.evaluate import evaluate_cell
from generation import GenerationOptions, GenerationOutput, generate
from generation.strategies.registry import make_strategy
from generation.strategies.strategy import Board, Edit, Region, View
from generation.testing import FAMILIES, StrategyCheck, strategy_checks
from models import Transformer

MASK, EOS = 99, 98
GROWING = {
    "strategy": "daedal",
    "gen_length": 24,
    "block_length": 8,
    "threshold": 0.4,
    "initial_length": 6,
    "expansion": 3,
    "low_threshold": 0.2,
    "eos_threshold": 0.0,
    "eos_window": 6,
}
"""Values with which sequences of a random model, which predicts no end, grow by insertion."""


class Script:
    """One sequence whose predictions are given."""

    def __init__(self, **options: Any) -> None:
        self.options = GenerationOptions.make(strategy="daedal", **{"block_length": 4, "gen_length": 16, **options})
        self.strategy: Any = make_strategy(self.options)
        self.ids = torch.full((1, self.options.gen_length), MASK)
        self.lengths: Any = [self.strategy.initial_length]
        self.regions: list[Region] | None = None
        self.strategy.start(self.board())

    def board(self) -> Board:
        masked = self.ids == MASK
        exists = torch.arange(self.ids.shape[1]) < self.lengths[0]
        return Board(self.ids, masked, masked & exists, self.regions, [0], [0], list(self.lengths))

    def step(self, tokens: list[int], confidence: list[float]) -> tuple[Region, Edit]:
        """One forward that predicts ``tokens`` in the columns that exist."""
        board, length = self.board(), self.lengths[0]
        plan = self.strategy.plan(board)
        missing = self.ids.shape[1] - length
        predicted = torch.tensor([tokens + [0] * missing])
        sure = torch.tensor([confidence + [0.0] * missing])
        (region,) = plan.regions
        inside = torch.arange(self.ids.shape[1])[None]
        eligible = board.open & plan.candidates & (inside >= region.start) & (inside < region.end)
        live = eligible if plan.logits is None else eligible | plan.logits
        view = View(
            eligible,
            sure.masked_fill(~live, -torch.inf),
            board.masked,
            board.open,
            [0],
            [region],
            self.ids,
            torch.where(live, predicted, self.ids),
            live,
            torch.ones_like(live),
            None,
            None,
            [0],
            MASK,
            EOS,
            list(self.lengths),
        )
        edit = self.strategy.decide(view)
        self.ids, self.lengths, self.regions = edit.ids, edit.lengths, [region]
        return region, edit

    @property
    def text(self) -> list[int]:
        ids: list[int] = self.ids[0, : self.lengths[0]].tolist()
        return ids


def test_the_canvas_grows_at_its_end_and_then_by_insertion() -> None:
    script = Script(initial_length=4, expansion=3, eos_window=4, threshold=0.9, low_threshold=0.3)
    region, _ = script.step([1, 2, EOS, EOS], [0.9, 0.9, 0.9, 0.9])  # 1.8 / 4 is below 0.5; nothing is committed
    assert (region, script.text) == ((0, 0, 4), [MASK] * 7)  # the region is all that there is
    # the last four that predict the end count, not the first one: 2 / 4
    region, _ = script.step([EOS, 2, EOS, EOS, 5, EOS, EOS], [1.0, 0.9, 0.5, 0.5, 0.9, 0.5, 0.5])
    assert (region, script.text) == ((1, 0, 7), [MASK] * 7 + [EOS, EOS])
    # the end expected with 2.7 / 4: of the masks of the block that are left, column 1 becomes three
    region, edit = script.step([1, 2, 3, 4, 5, 6, EOS, EOS, EOS], [0.95, 0.2, 0.25, 0.91, 0.1, 0.95, 0.9, 0.9, 0.9])
    assert region == (2, 0, 4)
    assert script.text == [1, MASK, MASK, MASK, MASK, 4, MASK, MASK, MASK, EOS, EOS]
    assert edit.moved is not None
    assert edit.moved[0].nonzero().flatten().tolist() == list(range(2, 11))
    # committed tokens count where they predict the end: 3.7 / 4 is enough
    ends = [1, 11, 12, 13, 14, EOS, 16, 17, EOS, EOS, EOS]
    _, edit = script.step(ends, [0.9, 0.2, 0.1, 0.2, 0.1, 0.7, 0.9, 0.9, 1.0, 1.0, 1.0])
    assert edit.moved is None or not edit.moved.any()
    assert script.text == [1, 11, MASK, MASK, MASK, 4, MASK, MASK, MASK, EOS, EOS]


def test_what_exceeds_the_most_is_cut() -> None:
    options = {"initial_length": 5, "expansion": 4, "eos_window": 2, "eos_threshold": 0.0, "low_threshold": 0.3}
    script = Script(gen_length=7, block_length=7, **options)
    script.step([1] * 5, [0.9] * 5)
    assert script.text == [MASK] * 5 + [EOS]
    script.step([1, 2, 3, 4, 5, 1], [0.95, 0.5, 0.5, 0.1, 0.5, 0.0])
    assert script.text == [1, MASK, MASK, MASK, MASK, MASK, MASK]
    plan = script.strategy.plan(script.board())
    assert plan.logits is None, "the end decides nothing any more"
    script.step([1, 2, 3, 4, 5, 1, 1], [0.0, 0.5, 0.6, 0.1, 0.1, 0.1, 0.1])
    assert script.text == [1, MASK, 3, MASK, MASK, MASK, MASK]


def test_predictions_move_with_their_positions() -> None:
    """A cache did not run the columns behind the block, so the last known prediction counts."""
    strategy = Script(gen_length=16, initial_length=16, expansion=3).strategy
    ids, moved = torch.arange(8), torch.zeros(8, dtype=torch.bool)
    ending = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.0, 0.0])
    assert strategy._insert(ids, moved, ending, 2, 6, MASK) == 8
    assert ids.tolist() == [0, 1, MASK, MASK, MASK, 3, 4, 5]
    assert torch.equal(ending, torch.tensor([0.0, 0.1, 0.0, 0.0, 0.0, 0.3, 0.4, 0.5]))
    assert moved.tolist() == [False] * 3 + [True] * 5


def decode(model: Transformer, prompts: list[list[int]], cache: Any = "none", **options: Any) -> GenerationOutput:
    return generate(model, prompts, cache, trace=True, **{"seed": 0, **GROWING, **options})


def test_sequences_grow_up_to_the_most(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    for model in tiny_models.values():
        out = decode(model, prompts)
        trace, mask = out.trace or [], model.config.mask_id
        assert any(entry.moved is not None and entry.moved.any() for entry in trace)
        lengths = [entry.lengths for entry in trace if entry.lengths is not None]
        assert lengths[0] == [9] * 3
        assert out.lengths == lengths[-1]
        assert max(out.lengths) == 24
        for b, prompt in enumerate(prompts):
            assert (out.tokens[b, : out.lengths[b]] != mask).all()
            assert (out.tokens[b, out.lengths[b] :] == mask).all()
            before = 6
            for entry in trace:
                if b in entry.active:
                    assert entry.visible[entry.active.index(b)] == len(prompt) + before
                    assert entry.lengths is not None
                    before = entry.lengths[b]
        assert out.counts.compute_ratio == 1, "columns that do not exist are no work saved"
        assert out.counts.rows < sum(out.forwards) * (24 + 11)


def test_a_canvas_that_need_not_grow_is_decoded_by_threshold(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    """Whatever the most is: columns that do not exist have no influence."""
    plain = {"block_length": 8, "threshold": 0.4, "seed": 0}
    for model in tiny_models.values():
        other = generate(model, prompts, gen_length=16, **plain)
        options = {"initial_length": 16, "eos_window": 1, "eos_threshold": 0.0}
        for length, name, value in (
            (16, "low_threshold", 0.5),
            (32, "low_threshold", 0.0),
            (32, "expand_threshold", 0.0),
        ):
            ours = decode(model, prompts, gen_length=length, **options, **{name: value})
            assert torch.equal(ours.tokens[:, :16], other.tokens)
            assert ours.lengths == [16] * 3
            assert ours.forwards == [forwards + (length > 16) for forwards in other.forwards]  # one to see the length


@pytest.mark.parametrize(
    ("cache", "parameters"),
    [
        ("dkv", {"cache_steps": 1000, "shift_type": "un_right"}),
        ("freecache", {"freeze_after_write": True}),
        ("dllm", {"kp": 1000, "kr": 1000, "rou": 0.0}),
        ("sparse", {"keep_ratio": 1.0, "kernel_size": 1}),
        ("elastic", {"gamma": 0.0, "block_caching": False}),
    ],
    ids=str,
)
def test_moved_positions_run_again(
    cache: str, parameters: dict[str, Any], shallow: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    """In one layer a cache that runs what has changed decodes what full recomputation does."""
    for family, model in shallow.items():
        if (cache, family) == ("sparse", "dream"):
            continue  # the last row of a block, which predicts nothing of it, waits for the next block
        expected = decode(model, prompts)
        assert any(entry.moved is not None and entry.moved.any() for entry in expected.trace or [])
        ours = decode(model, prompts, make_cache(cache, **parameters))
        assert torch.equal(ours.tokens, expected.tokens), family
        assert ours.lengths == expected.lengths


@pytest.mark.sampled(6)
@pytest.mark.parametrize("cache", [entry.name for entry in caches.entries()])
@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_sequence_that_grew_starts_again(
    family: str, cache: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    """With every cache, a sequence of a batch runs the rows that it runs alone."""
    model, padding = tiny_models[family], max(map(len, prompts)) - len(prompts[1])
    if cache == "dkv_greedy":
        with pytest.raises(UsageError, match="DKVGreedyCache must know"):
            decode(model, prompts, cache)
        return
    batch, alone = decode(model, prompts, cache), decode(model, [prompts[1]], cache)
    assert torch.equal(alone.tokens[0], batch.tokens[1])
    assert alone.lengths == batch.lengths[1:2]
    steps = [step for step in batch.trace or [] if 1 in step.active]
    ours = [[row - padding for row in step.rows[step.active.index(1)]] for step in steps]
    assert ours == [step.rows[0] for step in alone.trace or []]


def test_a_frozen_prefix_stays_frozen_when_the_canvas_grows(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    out = decode(tiny_models["dream"], prompts[:1], make_cache("dkv", cache_steps=1000))
    trace, grown = out.trace or [], 0
    for before, entry in pairwise(trace[1:]):
        if before.moved is not None and before.moved.any():
            moved = {11 + column for column in before.moved[0].nonzero().flatten().tolist()}
            assert moved <= set(entry.rows[0])
            assert len(entry.rows[0]) < entry.visible[0]
            grown += 1
    assert grown > 2


def test_dyllm_recomputes_a_sequence_that_grew(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    """Also when nothing appears: what is pushed over the end is cut."""
    cache = make_cache("dyllm", full_steps=1, threshold=0.0)
    out = decode(tiny_models["llada"], prompts[:1], cache, gen_length=8, initial_length=8, low_threshold=1.0)
    assert out.lengths == [8]
    out = decode(tiny_models["llada"], prompts[:1], cache)
    trace, grown = out.trace or [], 0
    for before, entry in pairwise(trace[1:]):
        if before.moved is not None and before.moved.any():
            assert entry.work.feed_forward == [entry.visible[0]] * 3
            grown += 1
    assert grown > 2
    assert any(sum(entry.work.feed_forward) < 3 * entry.visible[0] for entry in trace)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial_length": 0}, "strategy parameter 'initial_length' must be at least 1, not 0"),
        ({"expansion": 1}, "strategy parameter 'expansion' must be at least 2, not 1"),
        ({"eos_window": 0}, "strategy parameter 'eos_window' must be at least 1, not 0"),
        ({"low_threshold": 2.0}, "strategy parameter 'low_threshold' must be between 0 and 1, not 2.0"),
        ({"eos_threshold": -0.1}, "strategy parameter 'eos_threshold' must be between 0 and 1, not -0.1"),
        ({"steps": 16}, "steps=16 does not go with strategy 'daedal', which decodes by thresholds"),
        ({"logits_eos_inf": True}, "logits_eos_inf=True does not go with strategy 'daedal', which takes the length"),
        ({"eos": "block"}, "eos=block does not go with"),
        ({"alg": "entropy"}, "alg=entropy does not go with"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        GenerationOptions.make(strategy="daedal", gen_length=16, block_length=8, **options)
    assert message in str(error.value)


CONTRACT = strategy_checks(
    "daedal",
    {key: GROWING[key] for key in ("initial_length", "expansion", "low_threshold", "eos_threshold", "eos_window")},
    decoders=["blocks", "threshold", "sampling", "until-eos"],
)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("check", CONTRACT, ids=str)
def test_the_contract_of_strategies(check: StrategyCheck) -> None:
    check()


OWN_CANVAS = {
    "daedal": ["gen_length=64", "initial_length=16", "block_length=16", "eos_window=8"],
    "wino": ["gen_length=32", "block_length=16"],
    "slowfast": ["gen_length=32", "block_length=32", "k_exploration=1"],
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("strategy", "cache"), [("daedal", "none"), ("daedal", "d2cache"), ("wino", "d2cache"), ("slowfast", "none")]
)
def test_saved_figures_are_those_of_the_canvas_that_there_was(strategy: str, cache: str, tmp_path: Path) -> None:
    """`cache-zoo check` derives them from the samples."""
    common = ["model=nano-llada", "dataset=nano-gsm", "dataset.size=3", "batch_size=3", f"output_dir={tmp_path}"]
    own = [f"generation={strategy}", f"cache={cache}", *(f"generation.{value}" for value in OWN_CANVAS[strategy])]
    for settings in cells([*common, *own], sweep=True):
        evaluate_cell(settings)
    (run,) = (folder for folder in tmp_path.iterdir() if (folder / "results.json").exists())
    problems = [text for text in check_run(run, datasets={}) if "commit" not in text and "were asked" not in text]
    assert problems == []
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    canvas = [sample["tokens_canvas"] for sample in samples]
    efficiency = json.loads((run / "results.json").read_text())["efficiency"]
    assert efficiency["tokens_canvas"] == sum(canvas)
    if strategy == "daedal":
        assert max(canvas) < 64
        assert all(sample["raw"].count("<|endoftext|>") >= 4 for sample in samples)
    else:
        assert canvas == [32] * 3
    if cache == "none":
        assert efficiency["compute_ratio"] == 1
    for sample in samples:
        sample["tokens_canvas"] += 1
    (run / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    assert any("tokens_canvas" in text for text in check_run(run, datasets={}))
