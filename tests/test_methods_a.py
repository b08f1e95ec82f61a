"""dInfer's vicinity refresh, DSB-Cache, FreeCache and dKV-Cache: what runs, and settings in which they equal others."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cache_zoo import UsageError, make_cache
from cache_zoo.methods.dkv_greedy import DKVGreedyCache
from generation import Board, Edit, GenerationOutput, Strategy, View, generate
from models import Transformer
from models.tiny import SMALLEST

BLOCKS = {"gen_length": 32, "block_length": 8}
FAMILIES = tuple(SMALLEST)


def prompt(length: int) -> list[int]:
    return torch.randint(0, 256, (length,), generator=torch.Generator().manual_seed(length)).tolist()


def decode(
    model: Transformer, length: int, cache: str, parameters: dict[str, Any] | None = None, **options: Any
) -> Any:
    """One prompt of ``length`` tokens, decoded with a trace."""
    options = {"seed": 5, "trace": True, **options}
    return generate(model, [prompt(length)], make_cache(cache, **(parameters or {})), **options)


def rows(out: GenerationOutput) -> list[list[int]]:
    """Positions that ran in each forward of a single sequence."""
    return [entry.rows[0] for entry in out.trace or []]


def spans(out: GenerationOutput) -> list[tuple[int, int]]:
    """First position and end of the rows of each forward, which have no gaps."""
    for ran in rows(out):
        assert ran == list(range(ran[0], ran[-1] + 1))
    return [(ran[0], ran[-1] + 1) for ran in rows(out)]


def committed(out: GenerationOutput, start: int) -> list[list[int]]:
    """Positions of the canvas that each forward committed."""
    return [[start + at for at in entry.committed[0].nonzero().flatten().tolist()] for entry in out.trace or []]


def same(one: GenerationOutput, other: GenerationOutput) -> bool:
    """Whether two generations committed the same in every forward."""
    pairs = zip(one.trace or [], other.trace or [], strict=True)
    return all(torch.equal(a.canvas, b.canvas) for a, b in pairs)


DECODERS: dict[str, dict[str, Any]] = {
    "blocks": {**BLOCKS, "num_transfer_tokens": 3},
    "steps": {**BLOCKS, "steps": 12},
    "threshold": {**BLOCKS, "threshold": 0.05},
    "sliding": {**BLOCKS, "strategy": "sliding", "threshold": 0.05},
    "sliding-const": {**BLOCKS, "strategy": "sliding", "max_block_length": 8, "num_transfer_tokens": 2},
    "whole": {"gen_length": 32, "block_length": None, "num_transfer_tokens": 2},
    "random": {**BLOCKS, "alg": "random", "num_transfer_tokens": 3},
}
FRESH: list[tuple[str, str, dict[str, Any]]] = [
    *((family, "vicinity", {"prefix_look": 0, "after_look": 0, "warmup_steps": 1}) for family in FAMILIES),
    *((family, "dsb", {"prefix_window": 0}) for family in FAMILIES),
    *((family, "freecache", {"freeze_after_write": True}) for family in FAMILIES),
    ("llada", "dkv", {"cache_steps": 5}),
    ("llada", "dkv", {"variant": "prefill"}),
    ("llada", "dkv", {"variant": "pd", "cache_steps": 5}),
    ("dream", "dkv", {"cache_steps": 5, "shift_type": "un_right"}),
    ("dream", "dkv", {"variant": "prefill"}),
    ("dream", "dkv", {"variant": "pd", "cache_steps": 5, "shift_type": "un_right"}),
    *((family, "dkv_greedy", {"cache_steps": 100, "window": 0}) for family in FAMILIES),
]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("family", "cache", "parameters"), FRESH, ids=lambda value: str(value))
def test_with_one_layer_a_cache_that_reads_what_is_written_loses_nothing(
    family: str, cache: str, parameters: dict[str, Any], decoder: str, shallow: dict[str, Transformer]
) -> None:
    if cache == "dkv_greedy" and decoder != "random":
        return  # refused, see below
    options = DECODERS[decoder]
    assert same(decode(shallow[family], 9, cache, parameters, **options), decode(shallow[family], 9, "none", **options))


# vicinity


def test_without_looks_and_warm_up_vicinity_is_the_dual_cache(tiny_models: dict[str, Transformer]) -> None:
    options = {**BLOCKS, "num_transfer_tokens": 3}
    dual = decode(tiny_models["llada"], 9, "dual", **options)
    out = decode(tiny_models["llada"], 9, "vicinity", {"prefix_look": 0, "after_look": 0, "warmup_steps": 0}, **options)
    assert same(out, dual)
    assert rows(out) == rows(dual)


@pytest.mark.parametrize(("family", "look", "before"), [("llada", 3, 3), ("dream", 3, 3), ("dream", 0, 1)])
def test_vicinity_runs_a_window_between_warm_up_and_the_next_block(
    family: str, look: int, before: int, tiny_models: dict[str, Transformer]
) -> None:
    parameters = {"prefix_look": look, "after_look": 20, "warmup_steps": 1}
    out = decode(tiny_models[family], 9, "vicinity", parameters, **BLOCKS, num_transfer_tokens=2)
    whole = (0, 41)

    def window(start: int) -> tuple[int, int]:
        return start - before, min(start + 8 + 20, 41)

    later = [span for start in (17, 25, 33) for span in (whole, *[window(start)] * 3)]
    assert spans(out) == [whole, whole, window(9), window(9), *later]


@pytest.mark.parametrize(
    ("warmup", "expected"),
    [
        (3, "WWWW Wwww Wwww Wwww"),  # the forward after the warm-up is the last of the first block
        (4, "WWWW WwWw Wwww Wwww"),  # it is in the second block, which is refreshed once more
        (5, "WWWW WWwW Wwww Wwww"),
        (6, "WWWW WWWw Wwww Wwww"),  # too late in it for that
    ],
)
def test_a_warm_up_that_ends_in_a_later_block_is_followed_by_two_refreshes(
    warmup: int, expected: str, tiny_models: dict[str, Transformer]
) -> None:
    parameters = {"prefix_look": 0, "after_look": 0, "warmup_steps": warmup}
    out = decode(tiny_models["llada"], 9, "vicinity", parameters, **BLOCKS, num_transfer_tokens=2)
    assert ["W" if span == (0, 41) else "w" for span in spans(out)] == list(expected.replace(" ", ""))


# DSB-Cache


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("most", [None, 8])
@pytest.mark.parametrize("before", [2, 1000])
def test_dsb_refreshes_after_a_block_length_of_tokens(
    family: str, most: int | None, before: int, tiny_models: dict[str, Transformer]
) -> None:
    parameters = {"prefix_window": before, "suffix_window": 3}
    options = {**BLOCKS, "strategy": "sliding", "max_block_length": most, "num_transfer_tokens": 3}
    out = decode(tiny_models[family], 9, "dsb", parameters, **options)

    written: set[int] = set()
    since, end, last_start, expected = 8, 17, 9, []
    for new in committed(out, 9):
        start = next((at for at in range(9, end) if at not in written), end)
        end = min(17 + len(written), 41, *([] if most is None else [start + most]))
        look = max(before, start - last_start)
        expected.append((0, 41) if since >= 8 else (max(0, start - look), min(end + 3, 41)))
        since = (0 if since >= 8 else since) + len(new)
        last_start, written = start, written | set(new)
    assert spans(out) == expected
    assert {(0, 41)} < set(expected)


def test_with_fixed_blocks_dsb_runs_the_last_block_once_more(tiny_models: dict[str, Transformer]) -> None:
    out = decode(tiny_models["llada"], 9, "dsb", {"prefix_window": 1}, **BLOCKS, num_transfer_tokens=5)
    # 5 + 3 tokens are a block length, so every block begins with a refresh; 7 + 1 are one as well
    assert spans(out) == [span for start in (9, 17, 25, 33) for span in ((0, 41), (start - 1, start + 8))]
    slow = decode(tiny_models["llada"], 9, "dsb", {"prefix_window": 1}, gen_length=12, block_length=6, steps=4)
    assert spans(slow) == [(0, 21), (8, 15), (0, 21), (14, 21)]


# FreeCache


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("after_write", [False, True])
def test_freecache_freezes_the_prompt_and_whole_blocks(
    family: str, after_write: bool, tiny_models: dict[str, Transformer]
) -> None:
    out = decode(
        tiny_models[family], 9, "freecache", {"freeze_after_write": after_write}, **BLOCKS, num_transfer_tokens=4
    )
    shift = int(family == "dream")
    begins = [0, 9, 9, 17, 17, 25, 25, 33] if after_write else [0, 9, 17, 17, 25, 25, 33, 33]
    assert spans(out) == [(max(0, begin - shift), 41) for begin in begins]


def test_with_one_block_freecache_freezes_the_prompt_alone(tiny_models: dict[str, Transformer]) -> None:
    for family, begin in (("llada", 9), ("dream", 8)):
        out = decode(tiny_models[family], 9, "freecache", gen_length=8, block_length=None, num_transfer_tokens=2)
        assert spans(out) == [(0, 17), *[(begin, 17)] * 3]


def test_freecache_freezes_after_the_write_where_the_last_forward_is_not_known(
    tiny_models: dict[str, Transformer],
) -> None:
    model, options = tiny_models["llada"], {**BLOCKS, "threshold": 0.05}
    out = decode(model, 9, "freecache", **options)
    assert same(out, decode(model, 9, "freecache", {"freeze_after_write": True}, **options))
    begins = [9 + 8 * entry.blocks[0] for entry in out.trace or []]
    assert [first for first, _ in spans(out)] == [0, *begins[:-1]]


def test_with_one_forward_per_block_freecache_freezes_the_first_in_it(tiny_models: dict[str, Transformer]) -> None:
    out = decode(tiny_models["llada"], 9, "freecache", **BLOCKS, steps=4)
    assert spans(out) == [(0, 41), (17, 41), (25, 41), (33, 41)]


def test_freecache_reads_the_last_tokens_of_earlier_blocks_as_masks(shallow: dict[str, Transformer]) -> None:
    model, given = shallow["llada"], prompt(9)
    ids = torch.tensor([given + [model.config.mask_id] * 32])
    unread = torch.zeros_like(ids, dtype=torch.bool)
    expected = []
    for start in (9, 17, 25, 33):
        for quota in (3, 3, 2):
            shown = ids.masked_fill(unread, model.config.mask_id)
            masked = torch.zeros_like(unread)
            masked[:, start : start + 8] = ids[:, start : start + 8] == model.config.mask_id
            logits = model(shown, masked)
            logits[:, model.config.mask_id] = -torch.inf
            best, tokens = logits.softmax(dim=1).max(dim=1)
            chosen = best.sort(descending=True, stable=True).indices[:quota]
            at = masked[0].nonzero().flatten()[chosen]
            ids[0, at] = tokens[chosen]
            expected.append(ids[0, 9:].tolist())
        unread[0, at] = True  # the forward that wrote them was the last that ran them
    out = decode(model, 9, "freecache", **BLOCKS, num_transfer_tokens=3)
    assert [entry.canvas[0].tolist() for entry in out.trace or []] == expected
    assert not same(out, decode(model, 9, "none", **BLOCKS, num_transfer_tokens=3))


# dKV-Cache


@pytest.mark.parametrize(
    ("family", "length", "block", "variant", "counts"),
    [
        ("llada", 20, 32, "decode", [52, 52, 31, 30, 52, 28, 27, 26, 52]),
        ("llada", 29, 8, "decode", [61, 61, 31, 30, 61, 28, 27, 26, 61, 61, 23, 22, 61]),
        ("llada", 20, 32, "prefill", [52, 32, 32, 32, 32, 32]),
        ("llada", 20, 32, "pd", [52, 32, 31, 30, 32, 28, 27, 26, 32]),
        ("dream", 20, 32, "decode", [52, 33, 32, 31, 52, 29, 28, 27, 52]),
        ("dream", 20, 32, "prefill", [52, 33, 33, 33, 33, 33]),
        ("dream", 20, 32, "pd", [52, 33, 32, 31, 33, 29, 28, 27, 33]),
    ],
)
def test_numbers_of_rows_of_dkv(
    family: str, length: int, block: int, variant: str, counts: list[int], tiny_models: dict[str, Transformer]
) -> None:
    parameters = {"cache_steps": 4, "variant": variant}
    out = decode(tiny_models[family], length, "dkv", parameters, gen_length=32, block_length=block)
    assert [len(ran) for ran in rows(out)][: len(counts)] == counts


@pytest.mark.parametrize("shift_type", ["un", "un_right"])
def test_a_row_of_a_shifted_model_is_frozen_with_the_token_that_it_predicts(
    shift_type: str, tiny_models: dict[str, Transformer]
) -> None:
    parameters = {"cache_steps": 100, "shift_type": shift_type}
    out = decode(tiny_models["dream"], 9, "dkv", parameters, gen_length=32, block_length=None, num_transfer_tokens=2)
    masked = set(range(9, 41))
    for ran, new in zip(rows(out)[1:], committed(out, 9), strict=False):
        live = {at - 1 for at in masked}
        if shift_type == "un_right":
            live |= masked | ({40} & live)
        assert set(ran) == live | ({40} & masked if shift_type == "un" else {40} if 39 in live else set())
        masked -= set(new)


def test_prefill_freezes_nothing_of_a_prompt_of_one_token(tiny_models: dict[str, Transformer]) -> None:
    options = {**BLOCKS, "num_transfer_tokens": 2}
    out = decode(tiny_models["dream"], 1, "dkv", {"variant": "prefill"}, **options)
    assert same(out, decode(tiny_models["dream"], 1, "none", **options))
    assert out.counts.compute_ratio == 1


class Regretful(Strategy):
    """Takes back, in every fifth forward, the first token that it has written in the block."""

    patience = 2

    def start(self, board: Board) -> None:
        self._forwards = 0

    def decide(self, view: View) -> Edit:
        self._forwards += 1
        best = view.confidence.masked_fill(~view.eligible, -torch.inf).argmax(dim=1, keepdim=True)
        ids = view.ids.scatter(1, best, view.tokens.gather(1, best))
        if self._forwards % 5 == 0:
            for b, region in enumerate(view.regions):
                written = [at for at in range(region.start, region.end) if not view.masked[b, at]]
                ids[b, written[:1]] = view.mask_id
        return Edit(ids)


@pytest.mark.parametrize("parameters", [{"shift_type": "un"}, {"shift_type": "un_right"}, {"variant": "pd"}], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_revoked_token_thaws(
    family: str, parameters: dict[str, str], tiny_models: dict[str, Transformer], shallow: dict[str, Transformer]
) -> None:
    options = {"gen_length": 16, "block_length": None, "strategy": f"{__name__}:Regretful"}
    given, mask = {"cache_steps": 100, **parameters}, tiny_models[family].config.mask_id
    trace = decode(tiny_models[family], 9, "dkv", given, **options).trace or []
    thawed = 0
    for before, entry, following in zip(trace, trace[1:], trace[2:], strict=False):
        revoked = (before.canvas[0] != mask) & (entry.canvas[0] == mask)
        for column in revoked.nonzero().flatten().tolist():
            assert {9 + column, 9 + column - (family == "dream")} <= set(following.rows[0])
            thawed += 1
    assert thawed >= 3
    if family == "llada" or parameters == {"shift_type": "un_right"}:
        assert same(decode(shallow[family], 9, "dkv", given, **options), decode(shallow[family], 9, "none", **options))


# dKV-Cache-Greedy


def test_greedy_runs_what_comes_next_what_came_last_and_masked_neighbours(
    tiny_models: dict[str, Transformer],
) -> None:
    parameters = {"cache_steps": 4, "window": 3}
    out = decode(tiny_models["llada"], 9, "dkv_greedy", parameters, **BLOCKS, alg="random")
    masked, last = set(range(9, 41)), set[int]()
    for number, (ran, new) in enumerate(zip(rows(out), committed(out, 9), strict=True)):
        (position,) = new
        nearest = sorted(masked - {position}, key=lambda at: (abs(at - position), at))[:3]
        assert set(ran) == (set(range(41)) if number % 4 == 0 else {position, *nearest} | last)
        masked, last = masked - {position}, {position}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tokens", [1, 3])
def test_greedy_that_refreshes_always_decodes_in_the_same_order_as_no_cache(
    family: str, tokens: int, tiny_models: dict[str, Transformer]
) -> None:
    options = {**BLOCKS, "alg": "random", "num_transfer_tokens": tokens}
    plain = decode(tiny_models[family], 9, "none", **options)
    assert same(decode(tiny_models[family], 9, "dkv_greedy", {"cache_steps": 1}, **options), plain)
    cached = decode(tiny_models[family], 9, "dkv_greedy", {"cache_steps": 100, "window": 0}, **options)
    assert committed(cached, 9) == committed(plain, 9)
    assert cached.counts.compute_ratio < 0.5


def test_neighbours_are_taken_in_the_order_of_the_plan() -> None:
    masked = torch.ones(1, 20, dtype=torch.bool)
    for ranks, expected in (({10: 1, 12: 2}, [9, 10, 11, 12, 13, 14]), ({10: 2, 12: 1}, [8, 9, 10, 11, 12, 13])):
        planned = torch.zeros(1, 20, dtype=torch.long)
        for position, rank in ranks.items():
            planned[0, position] = rank
        wanted = DKVGreedyCache(window=2)._with_neighbours(planned, masked)
        assert wanted[0].nonzero().flatten().tolist() == expected


@pytest.mark.parametrize("options", [{}, {"threshold": 0.5}, {"alg": "entropy"}, {"strategy": "window"}], ids=str)
def test_greedy_needs_a_known_order(options: dict[str, Any], tiny_models: dict[str, Transformer]) -> None:
    with pytest.raises(UsageError, match=r"alg=random"):
        decode(tiny_models["llada"], 9, "dkv_greedy", **BLOCKS, **options)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("vicinity", {"prefix_look": -1}, "'prefix_look' must not be negative, not -1"),
        ("vicinity", {"warmup_steps": -2}, "'warmup_steps' must not be negative, not -2"),
        ("dsb", {"suffix_window": -1}, "'suffix_window' must not be negative, not -1"),
        ("freecache", {"freeze_after_write": 1}, "'freeze_after_write' must be true or false, not 1"),
        ("dkv", {"cache_steps": 0}, "'cache_steps' must be at least 1"),
        ("dkv", {"variant": "decoded"}, "unknown value of cache parameter 'variant' 'decoded': did you mean 'decode'"),
        ("dkv", {"shift_type": "right"}, "unknown value of cache parameter 'shift_type' 'right'"),
        ("dkv_greedy", {"window": -1}, "'window' must not be negative, not -1"),
    ],
)
def test_bad_parameters_are_named(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_cache(name, **parameters)
