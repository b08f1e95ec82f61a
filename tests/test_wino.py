"""WINO: what it drafts, what it takes back, and what caches do about it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from cache_zoo import UsageError, caches, make_cache
from generation import Edit, GenerationOptions, GenerationOutput, Strategy, generate
from generation.strategies.registry import make_strategy
from generation.strategies.strategy import Board, Plan, Region, View
from generation.testing import StrategyCheck, strategy_checks
from models import Transformer

MASK, EOS, LENGTH = 99, 98, 8
LOW = {"strategy": "wino", "threshold": 0.15, "threshold_back": 0.3, "gen_length": 16, "block_length": 8}
"""Thresholds that tell tokens of a random model apart."""


class Script:
    """One sequence of one block whose confidences are given."""

    def __init__(self, **options: Any) -> None:
        options = {"gen_length": LENGTH, "block_length": LENGTH, **options}
        self.strategy = make_strategy(GenerationOptions.make(strategy="wino", **options))
        self.ids, self.forwards = torch.full((1, LENGTH), MASK), 0
        self.strategy.start(self.board())

    def board(self) -> Board:
        masked = self.ids == MASK
        return Board(self.ids, masked, masked, None, [self.forwards], [0])

    def step(self, confidence: list[float], back: list[float] | None = None) -> tuple[list[int], list[int]]:
        """Columns that a forward drafts and takes back; ``back``: probabilities of the tokens that are written."""
        plan, masked = self.strategy.plan(self.board()), self.ids == MASK
        assert (plan.leave_one_out is None) == (back is None)
        left_out = None if back is None else self._logits(back)
        tokens = torch.where(masked, torch.arange(LENGTH)[None], self.ids)
        view = View(
            masked,
            torch.tensor([confidence]).masked_fill(~masked, -torch.inf),
            masked,
            masked,
            [self.forwards],
            [Region(0, 0, LENGTH)],
            self.ids,
            tokens,
            masked,
            torch.ones_like(masked),
            None,
            left_out,
            [0],
            MASK,
            EOS,
        )
        edit = self.strategy.decide(view)
        assert not isinstance(edit, Tensor)
        drafted = ((edit.ids != MASK) & masked)[0].nonzero().flatten().tolist()
        revoked = ((edit.ids == MASK) & ~masked)[0].nonzero().flatten().tolist()
        self.ids, self.forwards = edit.ids, self.forwards + 1
        return drafted, revoked

    def _logits(self, probability: list[float]) -> Tensor:
        """Logits ``[LENGTH, 100]`` that give the token in each column its probability, wherever one is written."""
        logits = torch.zeros(LENGTH, 100)
        for column, share in enumerate(probability):
            token = int(self.ids[0, column])
            logits[column] = torch.tensor((1 - share) / 99).log()
            logits[column, token] = torch.tensor(share).log()
        return logits


def test_drafts_and_revocations_by_hand() -> None:
    script = Script()
    assert script.step([0.9, 0.7, 0.65, 0.6, 0.1, 0.1, 0.1, 0.1]) == ([0, 1, 2], [])  # 0.6 does not exceed 0.6
    # two are accepted, and 1 and 2 are doubted: as many as the forward before accepted, less one
    assert script.step([0, 0, 0, 0.7, 0.8, 0.1, 0.1, 0.1], [0.95, 0.5, 0.3, 0.1, 0.1, 0, 0, 0]) == ([3, 4], [1, 2])
    # five masks; two accepted; of 0, 3 and 4, which are doubted, the least probable one, because two were accepted
    assert script.step([0, 0.9, 0.8, 0, 0, 0.1, 0.1, 0.1], [0.8, 0, 0, 0.2, 0.7, 0, 0, 0]) == ([1, 2], [3])
    # one token alone: nothing is taken back, however doubtful it is
    assert script.step([0, 0, 0, 0.2, 0, 0.3, 0.1, 0.1], [0.1] * LENGTH) == ([5], [])
    assert script.step([0, 0, 0, 0.9, 0, 0, 0.9, 0.9], [0.1] * LENGTH) == ([3, 6, 7], [])


def test_at_most_seventy_percent_are_drafted_but_five() -> None:
    assert len(Script().step([0.9] * LENGTH)[0]) == 5
    options = GenerationOptions.make(strategy="wino", gen_length=64, block_length=64)
    for masks, most in ((4, 4), (10, 7), (20, 14), (28, 19), (60, 20)):
        strategy: Any = make_strategy(options)
        eligible = torch.arange(64)[None] < masks
        view: Any = type("", (), {"eligible": eligible, "confidence": torch.full((1, 64), 0.9)})
        assert strategy._drafted(view)[0].nonzero().flatten().tolist() == list(range(most))


def decode(model: Transformer, prompts: list[list[int]], cache: str = "none", **options: Any) -> GenerationOutput:
    return generate(model, prompts, cache, trace=True, **{"seed": 0, **LOW, **options})


def revocations(out: GenerationOutput) -> int:
    return sum(int(entry.revoked.sum()) for entry in out.trace or [] if entry.revoked is not None)


def test_without_a_second_threshold_it_is_threshold_decoding(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    """In blocks so short that the bound never counts."""
    for model in tiny_models.values():
        ours = decode(model, prompts, block_length=4, threshold_back=0.0)
        plain = {"gen_length": 16, "block_length": 4, "threshold": 0.15, "seed": 0}
        other = generate(model, prompts, **plain)
        assert ours.tokens.equal(other.tokens)
        assert (ours.nfe, ours.counts.flops) == (other.nfe, other.counts.flops)


def test_tokens_are_taken_back_within_the_block_and_none_stays_masked(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    for model in tiny_models.values():
        for threshold in (0.0, 0.15, 0.25):
            out = decode(model, prompts, threshold=threshold, threshold_back=1.0)
            assert (out.tokens != model.config.mask_id).all()
            assert revocations(out) > 5
            most = make_strategy(GenerationOptions.make(**LOW)).most_forwards
            assert max(out.forwards) <= most
            for entry in out.trace or []:
                if entry.revoked is not None:
                    start = max(map(len, prompts))
                    for b, (first, end) in zip(entry.active, entry.bounds, strict=True):
                        columns = entry.revoked[b].nonzero().flatten()
                        assert ((columns >= first - start) & (columns < end - start)).all()


def test_second_rows_are_counted_where_they_run_and_only_where_something_can_be_taken_back(
    tiny_models: dict[str, Transformer],
) -> None:
    model, prompt = tiny_models["llada"], list(range(9))
    out = decode(model, [prompt])
    assert revocations(out) > 0
    trace, masks = out.trace or [], 16
    for number, entry in enumerate(trace):
        first, end = (bound - 9 for bound in entry.bounds[0])
        before = (trace[number - 1].canvas if number else torch.full((1, 16), model.config.mask_id))[0, first:end]
        masks = int((before == model.config.mask_id).sum())
        beside = 8 if 1 < masks < 8 else 0
        assert entry.work.beside == beside
        assert entry.work.queries == entry.work.feed_forward == [25 + beside] * model.config.num_layers
    assert out.counts.compute_ratio == 1, "without a cache, second rows are what the forwards need"
    assert sum(entry.work.beside for entry in trace) == out.counts.rows_full - 25 * out.nfe


@pytest.mark.sampled(3)
@pytest.mark.parametrize("cache", ["dllm", "d2cache", "dkv", "freecache", "elastic", "dyllm", "entropy"])
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_caches_run_what_was_taken_back(
    cache: str, family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    """The row of a revoked token, or the one that predicts it, runs in the next forward."""
    model, checked = tiny_models[family], 0
    out = decode(model, prompts, cache, threshold=0.0, threshold_back=1.0)
    start, trace = max(map(len, prompts)), out.trace or []
    for entry, following in pairwise(trace):
        assert entry.revoked is not None
        for b in set(entry.active) & set(following.active):
            ran = {row for layer in following.layer_rows for row in layer[following.active.index(b)]}
            for column in entry.revoked[b].nonzero().flatten().tolist():
                assert start + column in ran
                checked += 1
    assert checked > 5
    for number, prompt in enumerate(prompts):
        alone = decode(model, [prompt], cache, threshold=0.0, threshold_back=1.0, seed=number)
        assert alone.tokens[0].equal(out.tokens[number])


class Elsewhere(Strategy):
    """Takes back the first token while it decodes the second block, and returns to it in the end."""

    @property
    def most_forwards(self) -> int:
        return 9

    def start(self, board: Board) -> None:
        self.forwards = 0

    def plan(self, board: Board) -> Plan:
        second = Region(1, 4, 8) if board.open[0, 4:8].any() and self.forwards >= 4 else None
        first = Region(0, 0, 4) if board.open[0, :4].any() else None
        return Plan([second or first])

    def decide(self, view: View) -> Edit:
        self.forwards += 1
        best = view.confidence.masked_fill(~view.eligible, -torch.inf).argmax(dim=1, keepdim=True)
        ids = view.ids.scatter(1, best, view.tokens.gather(1, best))
        if self.forwards == 6:
            ids[0, 0] = view.mask_id
        return Edit(ids)


@pytest.mark.parametrize("cache", ["d2cache", "dkv", "entropy", "elastic"])
def test_caches_run_what_was_taken_back_outside_of_the_block(cache: str, tiny_models: dict[str, Transformer]) -> None:
    for model in tiny_models.values():
        options = {"gen_length": 8, "block_length": 4, "strategy": f"{__name__}:Elsewhere"}
        given = make_cache("entropy", threshold=1e9, recent_k=0) if cache == "entropy" else cache
        trace = generate(model, [list(range(9))], given, trace=True, **options).trace or []
        assert trace[5].revoked is not None
        assert trace[5].revoked[0].nonzero().flatten().tolist() == [0]
        assert trace[6].bounds == [(13, 17)]
        assert 9 in trace[6].rows[0]


def test_every_cache_takes_part_or_is_refused_by_name(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    refused = []
    for entry in caches.entries():
        try:
            out = decode(tiny_models["dream"], prompts[:2], entry.name)
        except UsageError as error:
            refused.append((entry.name, str(error).split()[0]))
        else:
            assert (out.tokens != tiny_models["dream"].config.mask_id).all(), entry.name
    assert sorted(refused) == [
        ("dkv_greedy", "DKVGreedyCache"),
        ("maskkv", "MaskKVCache"),
        ("sparse", "SparseCache"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold_back": 1.5}, "strategy parameter 'threshold_back' must be between 0 and 1, not 1.5"),
        ({"num_transfer_tokens": 2}, "num_transfer_tokens=2 does not go with strategy 'wino', which drafts by"),
        ({"steps": 8}, "steps=8 does not go with strategy 'wino'"),
        ({"factor": 1.0}, "factor=1.0 does not go with strategy 'wino'"),
        ({"threshold": 0.9, "alpha": 0.3}, "alpha=0.3 does not go with"),
        ({"first_forward": "first_token"}, "first_forward=first_token does not go with"),
        ({"sigma": 3.0}, "sigma=3.0 does not go with"),
        ({"alg_temp": 0.5}, "alg_temp=0.5 does not go with"),
        ({"alg": "topk_margin"}, "alg=topk_margin does not go with strategy 'wino', which weighs the probability"),
        ({"confidence_eos_eot_inf": True}, "confidence_eos_eot_inf=True does not go with"),
        ({"eos": "fill"}, "eos=fill writes behind a token that strategy 'wino' may take back"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        GenerationOptions.make(strategy="wino", gen_length=16, block_length=8, **options)
    assert message in str(error.value)


@pytest.mark.parametrize("eos", ["drop", "cut"])
def test_an_end_of_text_that_is_taken_back_no_longer_counts(eos: str) -> None:
    from generation.end_of_text import EndOfText

    class Part:
        columns = torch.arange(6)[None]
        shape = (1, 6)
        prompt_length = 1

    class Step:
        canvas = Part

    ids = torch.tensor([[1, MASK, EOS, MASK, MASK, MASK]])
    end = EndOfText(eos, EOS, ids)
    step: Any = Step
    end.apply(ids, ids == MASK, step)
    assert end.open(ids == MASK, step.canvas)[0].nonzero().flatten().tolist() == [1]
    back = torch.tensor([[1, 7, MASK, MASK, MASK, MASK]])
    end.apply(back, back == MASK, step)
    assert end.open(back == MASK, step.canvas)[0].nonzero().flatten().tolist() == [2, 3, 4, 5]


CONTRACT = strategy_checks(
    "wino",
    {"threshold": 0.15, "threshold_back": 0.3},
    decoders=["blocks", "threshold", "sampling", "until-eos"],
)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("check", CONTRACT, ids=str)
def test_the_contract_of_strategies(check: StrategyCheck) -> None:
    check()
