"""ODB-dLLM: a predicted end cuts the canvas, and drafts are decoded beside it."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from cache_zoo import UsageError
from generation import Board, GenerationOptions, GenerationOutput, Plan, Region, View, generate
from generation.strategies.odb import ODB
from generation.strategies.strategy import Copies
from generation.strategies.vanilla import Vanilla
from generation.testing import StrategyCheck, strategy_checks
from models import Transformer

NEVER = {"strategy": "odb", "stop_confidence": 2.0}
MASK, EOS = 99, 98


def decode(model: Transformer, prompts: list[list[int]], cache: str = "none", **options: Any) -> GenerationOutput:
    return generate(model, prompts, cache, trace=True, **{"gen_length": 24, "block_length": 6, "seed": 2, **options})


def predicting_eos(model: Transformer, prompt: list[int]) -> Transformer:
    """``model`` that takes for end of sequence what it predicts at generated position 13."""
    tokens = decode(model, [prompt], strategy="vanilla", block_length=24, threshold=0.0).tokens
    model = copy(model)
    model.config = replace(model.config, eos_id=int(tokens[0, 13]))
    return model


@pytest.mark.sampled(2)
@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_without_a_predicted_end_and_drafts_it_is_vanilla(
    cache: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    for model in tiny_models.values():
        for rule in (
            {"threshold": 0.03},
            {"steps": 12, "eos": "block"},
            {"temperature": 0.6, "stop_until_eos": True},
            {"first_forward": "first_token"},
        ):
            expected = decode(model, prompts, cache, **rule)
            out = decode(model, prompts, cache, **NEVER, **rule)
            assert torch.equal(out.tokens, expected.tokens)
            assert (out.forwards, out.counts.rows) == (expected.forwards, expected.counts.rows)
            assert out.lengths == [24] * 3


@pytest.mark.sampled(6)
@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
@pytest.mark.parametrize(
    "rule", [{}, {"temperature": 0.4}, {"cfg_scale": 0.7}, {"sigma": 3.0}, {"first_forward": "first_token"}], ids=str
)
def test_accepted_drafts_are_what_decoding_one_by_one_writes(
    cache: str, rule: dict[str, Any], shallow: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    for model in shallow.values():
        expected, out = (
            decode(model, prompts, cache, **rule),
            decode(model, prompts, cache, **NEVER, drafts=True, **rule),
        )
        if "temperature" not in rule:  # which draws anew in every forward
            assert torch.equal(out.tokens, expected.tokens)
        assert all(forwards < 24 for forwards in out.forwards)
        assert max(int(entry.committed[0].sum()) for entry in out.trace or []) >= 2


class Copying(Vanilla):
    """Has three copies of the block predicted, the second with other tokens, and decodes as if it had not."""

    rows_beside = 3
    second: ClassVar[int]
    seen: ClassVar[list[Copies]]

    def plan(self, board: Board) -> Plan:
        plan = super().plan(board)
        copies = board.ids.unsqueeze(1).repeat(1, 3, 1)
        columns = torch.arange(copies.shape[2])
        for b, region in enumerate(plan.regions):
            if region is not None:
                copies[b, 1, region.start] = self.second
                copies[b, :, (columns < region.start) | (columns >= region.end)] = -1
        return replace(plan, copies=copies)

    def commit(self, view: View) -> Tensor:
        assert view.copies is not None
        self.seen.append(view.copies)
        return super().commit(view)


@pytest.mark.parametrize("cache", ["none", "prefix", "dual", "d2cache", "dllm"])
def test_copies_change_nothing_but_themselves(
    cache: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    for model in tiny_models.values():
        runs = []
        for second in (7, 8):
            Copying.second, Copying.seen = second, []
            out = decode(model, prompts, cache, strategy=f"{__name__}:Copying", num_transfer_tokens=2)
            expected = decode(model, prompts, cache, num_transfer_tokens=2)
            assert torch.equal(out.tokens, expected.tokens)
            assert out.counts.cache_bytes == expected.counts.cache_bytes
            beside = out.counts.rows - expected.counts.rows
            assert beside == out.counts.rows_full - expected.counts.rows_full
            if cache == "none":  # in shifted models the row before the block as well, but for the last block
                assert beside == 3 * 3 * 12 * (6 + model.config.shift)
            runs.append(Copying.seen)
        differs = False
        for one, other in zip(*runs, strict=True):
            for number in (0, 2):
                assert torch.equal(one.confidence[:, number], other.confidence[:, number]), "copies see each other"
                assert torch.equal(one.tokens[:, number], other.tokens[:, number])
            assert torch.equal(one.confidence[:, 0], one.confidence[:, 2])
            differs |= not torch.equal(one.confidence[:, 1], other.confidence[:, 1])
        assert differs


def test_a_copy_of_the_canvas_predicts_what_the_canvas_does(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    """Its rows attend to the same columns, whatever the cache holds."""
    for model in tiny_models.values():
        for cache in ("none", "dual", "d2cache"):
            Copying.second, Copying.seen = 7, []
            out = decode(model, prompts, cache, strategy=f"{__name__}:Copying")
            for entry, copies in zip(out.trace or [], Copying.seen, strict=True):
                live = copies.live[:, 0]
                assert live.any()
                canvas = entry.confidence[entry.active]
                assert torch.allclose(copies.confidence[:, 0][live], canvas[live], atol=1e-5)


def test_a_predicted_end_cuts_the_canvas(tiny_models: dict[str, Transformer]) -> None:
    for model in tiny_models.values():
        prompt = [1, 2, 3]
        model = predicting_eos(model, prompt)
        cutting = {"strategy": "odb", "stop_confidence": 0.0, "protected": 0, "threshold": 0.9}
        out = decode(model, [prompt], "dual", **cutting)
        assert out.trace is not None
        lengths = [(entry.lengths or [24])[0] for entry in out.trace]
        assert lengths == sorted(lengths, reverse=True)
        assert lengths[0] < 24
        assert out.lengths == [lengths[-1]]
        assert out.lengths[0] % 6 == 0
        # the forward that predicts it sees all columns, those that follow no longer
        assert [entry.visible[0] for entry in out.trace] == [27, *(3 + length for length in lengths[:-1])]
        assert (out.tokens[0, out.lengths[0] :] == model.config.mask_id).all()
        assert not (out.tokens[0, : out.lengths[0]] == model.config.mask_id).any()
        # where it must be surer than any prediction, or is protected, it stays whole
        for kept in ({"stop_confidence": 1.0}, {"protected": 24}):
            assert decode(model, [prompt], "dual", **{**cutting, **kept}).lengths == [24]


def first_block_with(stop: list[int], tokens: list[int]) -> int | None:
    """The first of the blocks of 6 that holds all of ``stop``."""
    last = len(stop) - 1
    found = [n for n in range(24 - last) if tokens[n : n + last + 1] == stop and n // 6 == (n + last) // 6]
    return found[0] // 6 if found else None


def test_a_complete_block_with_a_stop_ends_the_text(tiny_models: dict[str, Transformer]) -> None:
    for model in tiny_models.values():
        model = copy(model)
        model.config = replace(model.config, eos_id=259)  # which it does not predict
        plain = decode(model, [[1, 2, 3]]).tokens[0].tolist()
        assert 259 not in plain

        ends = set()
        for length in (1, 2, 3):
            for first in range(0, 24 - length, 3):
                stop = plain[first : first + length]
                out = decode(model, [[1, 2, 3]], **NEVER, stop_tokens=[9999, stop if length > 1 else stop[0]])
                block = first_block_with(stop, plain)
                end = 24 if block is None else 6 * (block + 1)
                assert out.tokens[0].tolist() == plain[:end] + [259] * (24 - end)
                assert out.nfe == end
                ends.add(end)
        assert len(ends) > 2


def test_in_a_batch_each_sequence_is_cut_alone(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    model = predicting_eos(tiny_models["llada"], prompts[0])
    given = {"strategy": "odb", "stop_confidence": 0.02, "protected": 0, "threshold": 0.03, "drafts": True}
    out = decode(model, prompts, "dual", **given)
    assert len(set(out.lengths)) > 1
    for number, prompt in enumerate(prompts):
        alone = decode(model, [prompt], "dual", **given)
        assert (alone.lengths, alone.nfe) == ([out.lengths[number]], out.forwards[number])
        assert torch.equal(alone.tokens[0], out.tokens[number])


def view(tokens: list[int], confidence: list[float], region: Region, **further: Any) -> View:
    every, rows = torch.ones(1, len(tokens), dtype=torch.bool), torch.tensor([tokens])
    columns = torch.arange(len(tokens))
    known: dict[str, Any] = {
        "eligible": (every & (columns >= region.start) & (columns < region.end)),
        "confidence": torch.tensor([confidence]),
        "masked": every,
        "open": every,
        "block_step": [0],
        "regions": [region],
        "ids": torch.full_like(rows, MASK),
        "tokens": rows,
        "live": every,
        "ran": every,
        "logits": None,
        "left_out": None,
        "seeds": [0],
        "mask_id": MASK,
        "eos_id": EOS,
    }
    return View(**{**known, **further})


def strategy(**own: Any) -> ODB:
    options = {"strategy": "odb", "gen_length": 12, "block_length": 2, "threshold": 2.0, **own}
    made = GenerationOptions.make(**options)
    odb = ODB(made, **made.parameters)
    ids = torch.full((1, made.gen_length), MASK)
    odb.start(Board(ids, ids == MASK, ids == MASK, None, [0], [0]))
    return odb


def test_where_the_canvas_is_cut_by_hand() -> None:
    tokens = [1, 5, 1, 1, EOS, 7, 7, 1, 1, 5, 6, EOS]
    sure = [0.9] * 12

    def cut(region: Region, confidence: list[float] = sure, lengths: list[int] | None = None, **own: Any) -> Any:
        odb = strategy(**{"protected": 0, **own})
        lengths = odb.decide(view(tokens, confidence, region, lengths=lengths)).lengths
        return None if lengths is None else (lengths[0], odb._left[0])

    first = Region(0, 0, 2)
    assert cut(first) == (6, 6)  # at column 4
    assert cut(first, stop_confidence=0.91) is None
    assert cut(first, protected=4) == (6, 6)
    assert cut(first, protected=5) is None  # column 11 would leave all
    assert cut(Region(1, 2, 4)) == (6, 4)  # counted from the block
    assert cut(first, stop_tokens=[7], protected=12) == (6, 6)  # a stop is not protected
    assert cut(first, stop_tokens=[[7, 7, 1], [5, 6]], protected=12) == (6, 6)
    assert cut(first, [*[0.9] * 6, 0.1, *[0.9] * 5], stop_tokens=[[7, 7], [5, 6]], protected=12) == (10, 10)
    assert cut(first, stop_tokens=[[5, 6, EOS, 1]], protected=12) is None  # not beyond the end
    assert cut(Region(3, 6, 8), stop_tokens=[6]) is None  # what is left has that length
    assert cut(Region(3, 6, 8), stop_tokens=[7], lengths=[10]) == (8, 2)
    later = view(tokens, sure, first, block_step=[1])  # beside a sequence whose block begins
    assert strategy(protected=0)._cut(later, torch.arange(12), torch.zeros(1, 1)) is None
    odb = strategy(protected=4)
    odb._left = [2]  # after a cut, not more is protected than it left
    assert odb.decide(view(tokens, sure, Region(1, 2, 4))).lengths == [6]


NOTHING = [0.1, 0.1, 0.1, 0.1]


@pytest.mark.parametrize(
    ("canvas", "of_first", "of_second", "tokens", "choice"),
    [
        # columns 1 and 2 hold the drafts a = 11 and b = 12; what confidences of 0.9 write of the canvas and two copies
        ([0.9, 0.1, 0.1, 0.1], NOTHING, NOTHING, [11, 12], 0),
        ([0.1, 0.9, 0.1, 0.1], NOTHING, NOTHING, [11, 12], 1),
        ([0.1, 0.9, 0.1, 0.1], NOTHING, NOTHING, [13, 12], 0),  # another token than drafted
        ([0.1, 0.1, 0.9, 0.1], NOTHING, NOTHING, [11, 12], 2),
        ([0.1, 0.9, 0.9, 0.1], NOTHING, NOTHING, [11, 12], 3),
        ([0.1, 0.9, 0.9, 0.1], NOTHING, NOTHING, [11, 13], 1),
        ([0.1, 0.9, 0.9, 0.1], NOTHING, NOTHING, [13, 12], 2),
        ([0.1, 0.9, 0.1, 0.1], [0.1, 0.0, 0.9, 0.1], NOTHING, [11, 12], 3),  # the copy with a writes b
        ([0.1, 0.1, 0.9, 0.1], NOTHING, [0.1, 0.9, 0.0, 0.1], [11, 12], 3),  # the copy with b writes a
        ([0.9, 0.1, 0.1, 0.1], [0.1, 0.0, 0.9, 0.1], [0.1, 0.9, 0.0, 0.1], [11, 12], 0),
    ],
)
def test_which_copy_is_adopted(
    canvas: list[float], of_first: list[float], of_second: list[float], tokens: list[int], choice: int
) -> None:
    odb = strategy(gen_length=4, block_length=4, drafts=True, threshold=0.5, stop_confidence=2.0)
    odb._least = [1]
    odb._places, odb._drafted = torch.tensor([[1, 2]]), torch.tensor([[11, 12]])
    held = torch.tensor([[[MASK, 11, MASK, MASK], [MASK, MASK, 12, MASK], [MASK, 11, 12, MASK]]])
    live = held == MASK
    # each of them would write something else where no draft is
    proposed = torch.tensor([[[21, 0, 12, 21], [22, 11, 0, 22], [23, 0, 0, 23]]])
    confidence = torch.tensor([[of_first, of_second, [0.1, 0.0, 0.0, 0.9]]]).masked_fill(~live, -torch.inf)
    seen = view([20, *tokens, 20], canvas, Region(0, 0, 4), block_step=[1])
    seen = replace(seen, copies=Copies(torch.where(live, proposed, held), confidence, live))
    ids = odb.decide(seen).ids[0]
    shown = [seen.ids[0], *held[0]][choice]
    best = [torch.tensor(canvas), *confidence[0]][choice]
    writes = (best >= 0.5) if (best >= 0.5).any() else torch.arange(4) == best.argmax()
    own = [seen.tokens[0], *proposed[0]][choice]
    assert torch.equal(ids, torch.where(writes, own, shown))
    # and the next drafts come from it
    assert torch.equal(odb._confidence[0], best)


def test_nothing_is_drafted_for_a_single_mask(tiny_models: dict[str, Transformer]) -> None:
    for model in tiny_models.values():
        out, seen = decode(model, [[1, 2]], **NEVER, drafts=True, block_length=4, gen_length=16), set()
        for entry in out.trace or []:
            start, end = entry.bounds[0]
            masks = int((~entry.confidence[0, start - 2 : end - 2].isneginf()).sum())
            # the first forward of a block, with 4 masks, has no predictions to draft
            assert (entry.work.beside > 0) == (masks in (2, 3))
            seen.add(masks)
        assert {1, 4} <= seen <= {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop_tokens": 5}, "'stop_tokens' must be a list, not 5"),
        ({"stop_tokens": ["a"]}, "strategy parameter 'stop_tokens' must be a list of token ids and lists of them"),
        ({"stop_tokens": [[]]}, "strategy parameter 'stop_tokens' must be a list of token ids and lists of them"),
        ({"stop_confidence": -0.1}, "strategy parameter 'stop_confidence' must not be negative, not -0.1"),
        ({"protected": -1}, "strategy parameter 'protected' must not be negative, not -1"),
        ({"drafts": 3}, "'drafts' must be true or false, not 3"),
        ({"alg": "entropy"}, "alg=entropy does not go with strategy 'odb'"),
        ({"alg_temp": 0.5}, "alg_temp=0.5 does not go with strategy 'odb'"),
        ({"logits_eos_inf": True}, "logits_eos_inf=True does not go with strategy 'odb'"),
    ],
)
def test_wrong_parameters_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        GenerationOptions.make(**{"strategy": "odb", "gen_length": 32, "block_length": 8, **options})
    assert message in str(error.value)


def test_a_cache_without_all_columns_refuses_drafts(tiny_models: dict[str, Transformer]) -> None:
    for cache in ("sparse", "maskkv"):
        with pytest.raises(UsageError, match="keeps keys and values of some columns only, and ODB"):
            decode(tiny_models["llada"], [[1]], cache, **NEVER, drafts=True)


CONTRACT = strategy_checks(
    "odb",
    {"stop_confidence": 0.01, "protected": 2, "stop_tokens": [5, [183, 155]], "drafts": True},
    decoders=("blocks", "threshold", "sampling", "guided", "until-eos"),
)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("check", CONTRACT, ids=str)
def test_the_contract_of_strategies(check: StrategyCheck) -> None:
    check()
