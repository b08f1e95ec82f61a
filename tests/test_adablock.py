"""Blocks that end at a predicted delimiter."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from cache_zoo import UsageError
from generation import GenerationOptions, GenerationOutput, Region, View, generate
from generation.strategies.adablock import AdaBlock
from generation.testing import StrategyCheck, strategy_checks
from models import Transformer

EVERY = list(range(260))


def decode(model: Transformer, prompt: list[int], cache: str = "none", **options: Any) -> GenerationOutput:
    given = {"strategy": "adablock", "gen_length": 24, "block_length": 4, "threshold": 0.02, **options}
    return generate(model, [prompt], cache, trace=True, **given)


def blocks(out: GenerationOutput) -> list[tuple[int, int]]:
    """First and last + 1 canvas column of each block."""
    return list({entry.blocks[0]: entry.bounds[0] for entry in out.trace or []}.values())


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_without_delimiters_the_blocks_are_those_of_vanilla(
    cache: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    options = {"gen_length": 24, "block_length": 4, "threshold": 0.02, "seed": 1}
    for model in tiny_models.values():
        for extra in ({}, {"first_forward": "first_token"}, {"eos": "block"}, {"temperature": 0.7}):
            expected = generate(model, prompts, cache, **options, **extra)
            out = generate(model, prompts, cache, strategy="adablock", delimiter_threshold=2.0, **options, **extra)
            assert torch.equal(out.tokens, expected.tokens)
            assert out.forwards == expected.forwards
            # the first forward of a block reads further logits, nothing else differs
            assert (out.counts.rows, out.counts.keys) == (expected.counts.rows, expected.counts.keys)


def test_the_last_block_may_be_shorter(tiny_models: dict[str, Transformer]) -> None:
    for model in tiny_models.values():
        out = decode(model, [1, 2, 3], delimiter_threshold=2.0, gen_length=14, block_length=6)
        assert blocks(out) == [(3, 9), (9, 15), (15, 17)]
        assert not (out.tokens == model.config.mask_id).any()


def test_a_block_ends_at_the_most_probable_delimiter_of_the_window(tiny_models: dict[str, Transformer]) -> None:
    """Every token is a delimiter, so it is the most confident position, from the first forward's own confidences."""
    for model in tiny_models.values():
        out = decode(model, [1, 2, 3], delimiters=EVERY, delimiter_threshold=0.0, window_share=0.3)
        assert out.trace is not None
        assert len({end - start for start, end in blocks(out)}) > 1
        end, seen = 0, -1
        for entry in out.trace:
            first, last = (bound - 3 for bound in entry.bounds[0])
            assert entry.confidence[0, last:].isneginf().all() or entry.blocks[0] != seen
            if entry.blocks[0] != seen:
                window = entry.confidence[0, end : min(end + 7, 24)]
                assert (first, last) == (end, end + int(window.argmax()) + 1)
                end, seen = last, entry.blocks[0]
            assert not entry.committed[0, last:].any(), "committed behind the block"
            assert entry.committed[0, first:last].any()
        assert end == 24


def view(tokens: list[int], confidence: list[float], regions: list[Region], steps: list[int]) -> View:
    batch = len(regions)
    every = torch.ones(batch, len(tokens), dtype=torch.bool)
    eligible = torch.stack(
        [(torch.arange(len(tokens)) >= r.start) & (torch.arange(len(tokens)) < r.end) for r in regions]
    )
    rows = torch.tensor(tokens).repeat(batch, 1)
    return View(
        eligible=eligible,
        confidence=torch.tensor(confidence).repeat(batch, 1),
        masked=every,
        open=every,
        block_step=steps,
        regions=regions,
        ids=rows,
        tokens=rows,
        live=every,
        ran=every,
        logits=None,
        left_out=None,
        seeds=[0] * batch,
        mask_id=99,
        eos_id=98,
    )


def settled(seen: View, **own: Any) -> list[tuple[int, int]]:
    options = GenerationOptions.make(strategy="adablock", gen_length=8, block_length=2)
    regions = AdaBlock(options, **own).settle(seen)
    assert regions is not None
    return [(region.start, region.end) for region in regions]


def test_the_rule_by_hand() -> None:
    tokens, confidence = [7, 5, 7, 5, 7, 5, 5, 7], [0.1, 0.9, 0.4, 0.9, 0.4, 0.9, 0.9, 0.8]
    begun = [Region(0, 0, 8), Region(3, 1, 4), Region(1, 5, 8), Region(2, 7, 8)]
    seen = view(tokens, confidence, begun, [0, 1, 0, 0])
    # the best delimiter of columns 0 to 3 is column 2; a block that is settled stays; column 7; column 7
    assert settled(seen, delimiters=[7], window_share=0.5) == [(0, 3), (1, 4), (5, 8), (7, 8)]
    # of equal ones the first counts; in the whole canvas column 7 is better
    assert settled(seen, delimiters=[7], window_share=0.625)[0] == (0, 3)
    assert settled(seen, delimiters=[7], window_share=1.0)[0] == (0, 8)
    # below the threshold, or without a delimiter in the window, the block is as long as given, or all that is left
    assert settled(seen, delimiters=[7], window_share=0.5, delimiter_threshold=0.41) == [(0, 2), (1, 4), (5, 8), (7, 8)]
    assert settled(seen, delimiters=[], window_share=0.5) == settled(seen, delimiters=[1], window_share=0.5)
    assert settled(seen, delimiters=[1], window_share=0.5) == [(0, 2), (1, 4), (5, 7), (7, 8)]
    # where only later positions can be committed, the block reaches to the first of them
    later = replace(seen, eligible=seen.eligible & (torch.arange(8) > 3))
    assert settled(later, delimiters=[1], window_share=0.5)[0] == (0, 5)
    # positions whose logits were not computed are no delimiters
    assert settled(replace(seen, live=torch.arange(8) != 2), delimiters=[7], window_share=0.5)[0] == (0, 2)
    options = GenerationOptions.make(strategy="adablock", gen_length=8, block_length=2)
    assert AdaBlock(options).settle(replace(seen, block_step=[1, 1, 2, 3])) is None


def test_the_end_of_text_is_looked_for_in_the_chosen_block(tiny_models: dict[str, Transformer]) -> None:
    """A block that one forward completes ends the text if it holds end of sequence, though its region was wider."""
    for model in tiny_models.values():
        eos = int(decode(model, [1, 2, 3], strategy="vanilla", block_length=24, threshold=0.0).tokens[0, 5])
        model = copy(model)
        model.config = replace(model.config, eos_id=eos)  # a token that is predicted
        given = {"delimiters": [eos], "delimiter_threshold": 0.0, "window_share": 1.0, "threshold": 0.0}
        plain, out = (decode(model, [1, 2, 3], **given, eos=rule) for rule in (None, "block"))
        (start, end), *further = blocks(plain)
        assert further, "the first block must not be the whole answer"
        assert eos in plain.tokens[0, : end - start]
        assert out.nfe == 1
        assert (out.tokens[0, end - start :] == eos).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiters": 198}, "'delimiters' must be a list, not 198"),
        ({"delimiters": ["a"]}, "strategy parameter 'delimiters' must be a list of token ids, not ['a']"),
        ({"delimiter_threshold": -1}, "strategy parameter 'delimiter_threshold' must not be negative, not -1"),
        ({"window_share": 0}, "strategy parameter 'window_share' must be above 0 and at most 1, not 0"),
        ({"steps": 8}, "steps=8 shares tokens out to blocks of one length; strategy 'adablock' chooses its blocks"),
        ({"alg": "entropy"}, "strategy 'adablock' compares probabilities of tokens; alg=entropy has others"),
        ({"strategy": "vanilla", "block_length": 5}, "block_length 5 does not divide gen_length 32"),
        ({"block_length": 33}, "block_length 33 does not divide gen_length 32"),
    ],
)
def test_wrong_parameters_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        GenerationOptions.make(**{"strategy": "adablock", "gen_length": 32, "block_length": 8, **options})
    assert message in str(error.value)


def test_uneven_blocks_count_their_forwards() -> None:
    options = {"strategy": "adablock", "gen_length": 30, "block_length": 8}
    assert GenerationOptions.make(**options).scheduled_steps == 30
    assert GenerationOptions.make(**options, num_transfer_tokens=4).scheduled_steps == 3 * 2 + 2


class Wandering(AdaBlock):
    """Settles on positions behind its plan."""

    def settle(self, view: View) -> list[Region] | None:
        return [region._replace(end=region.end + 1) for region in view.regions]


def test_a_region_stays_within_its_plan(tiny_models: dict[str, Transformer]) -> None:
    with pytest.raises(RuntimeError, match=r"Wandering settled on .*, which is no part of the planned"):
        decode(tiny_models["llada"], [1, 2], strategy=f"{__name__}:Wandering")


CONTRACT = strategy_checks(
    "adablock",
    {"delimiters": EVERY[::3], "delimiter_threshold": 0.0},
    decoders=("blocks", "threshold", "sampling", "guided", "until-eos"),
)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("check", CONTRACT, ids=str)
def test_the_contract_of_strategies(check: StrategyCheck) -> None:
    check()
