"""Sparse-dLLM against a naive reference that masks a whole canvas, and in its limits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cache_zoo import AttentionBlock, Canvas, KVCache, Step, UsageError, make_cache, make_suffix
from cache_zoo.methods.sparse import SparseCache
from generation import GenerationOutput, generate
from generation.strategies.strategy import Board, Plan, Region, Strategy, View
from models import Transformer

LENGTH = 16
FAMILIES = ["llada", "dream"]


class Naive(KVCache):
    """Keys and values of all columns, hidden by a mask; the choice of columns column by column in plain Python."""

    paper = "made up"

    def __init__(self, keep_ratio: float = 0.5, kernel_size: int = 3) -> None:
        self.keep_ratio, self.kernel_size = keep_ratio, kernel_size

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        batch = canvas.shape[0]
        self.blocks: list[Any] = [None] * batch
        self.forwards = [0] * batch
        self.kept: list[dict[int, list[int]]] = [{} for _ in range(batch)]

    def rows(self, step: Step) -> Tensor | None:
        canvas = step.canvas
        rows = torch.zeros(canvas.shape, dtype=torch.bool)
        self.windows = []
        for b, (start, end) in enumerate(step.bounds):
            block = (step.block_index[b], start, end)
            self.forwards[b] = self.forwards[b] + 1 if block == self.blocks[b] else 0
            self.blocks[b] = block
            self.windows.append(range(start - canvas.window_shift, end - canvas.window_shift))
            rows[b, self.windows[b].start : self.windows[b].stop] = True
            rows[b] |= self.forwards[b] < 2
        return rows

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        rows = step.rows
        query, key, value = attn.project(attn.norm(x), rows)
        self.store.write(layer, rows, key, value)
        keys, values = self.store.read(layer, step.canvas.all_columns)
        queries, visible = rows.scatter(query), step.canvas.valid if step.visible is None else step.visible
        mask = visible.clone()
        for b, number in enumerate(self.forwards):
            window = self.windows[b]
            if number == 1:
                outside = [c for c in visible[b].nonzero().flatten().tolist() if c not in window]
                inside = [c for c in window if visible[b, c]]
                self.kept[b][layer] = self.choose(queries[b, inside], keys[b], outside)
            if number >= 2:
                attended = [*self.kept[b][layer], *window]
                mask[b] &= torch.tensor([c in attended for c in range(mask.shape[1])])
        return attn.output(attn.attend(query, rows, keys, values, mask=mask))

    def choose(self, queries: Tensor, keys: Tensor, outside: list[int]) -> list[int]:
        mean, shared = queries.mean(dim=0), queries.shape[1] // keys.shape[1]
        scores = []
        for column in outside:
            products = [float(mean[head] @ keys[column, head // shared]) for head in range(len(mean))]
            scores.append(sum(products) / len(products))
        reach = self.kernel_size // 2
        pooled = [max(scores[max(0, i - reach) : i + reach + 1]) for i in range(len(scores))]
        best = sorted(range(len(outside)), key=lambda i: (-pooled[i], i))
        return [outside[i] for i in best[: int(self.keep_ratio * len(outside))]]

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        self.blocks, self.forwards, self.kept = (
            [values[b] for b in kept.tolist()] for values in (self.blocks, self.forwards, self.kept)
        )


class Growing(Strategy):
    """One block whose end moves by two columns after three forwards, without another index."""

    def plan(self, board: Board) -> Plan:
        regions: list[Region | None] = []
        for b, some in enumerate(board.open.any(dim=1).tolist()):
            end = min(LENGTH, 8 + 2 * (board.block_step[b] // 3))
            while some and not board.open[b, :end].any():
                end += 2
            regions.append(Region(0, 0, end) if some else None)
        return Plan(regions)

    def commit(self, view: View) -> Tensor:
        best = view.confidence.masked_fill(~view.eligible, -torch.inf).argmax(dim=1, keepdim=True)
        return torch.zeros_like(view.eligible).scatter_(1, best, True) & view.eligible


def same(ours: GenerationOutput, expected: GenerationOutput) -> None:
    assert ours.tokens.tolist() == expected.tokens.tolist()
    assert ours.forwards == expected.forwards
    assert ours.counts.rows == expected.counts.rows
    assert ours.counts.keys == pytest.approx(expected.counts.keys)


DECODERS: dict[str, dict[str, Any]] = {
    "blocks": {"block_length": 4},
    "whole": {"block_length": 16, "num_transfer_tokens": 2},
    "threshold": {"block_length": 8, "threshold": 0.35},
    "first-token": {"block_length": 8, "schedule": "dream", "steps": 16, "first_forward": "first_token"},
    "suffix": {"block_length": 4, "suffix": make_suffix("window", window=2)},
    "moving": {"strategy": "sliding", "block_length": 4},
    "growing": {"strategy": f"{__name__}:Growing", "block_length": 16},
    "guided": {"block_length": 8, "cfg_scale": 0.5},
}


@pytest.mark.sampled(4)
@pytest.mark.filterwarnings("ignore:.*needs blocks")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("parameters", [{}, {"keep_ratio": 0.3, "kernel_size": 1}], ids=str)
@pytest.mark.parametrize("decoder", DECODERS)
def test_it_equals_the_naive_reference(
    decoder: str,
    parameters: dict[str, Any],
    family: str,
    tiny_models: dict[str, Transformer],
    prompts: list[list[int]],
) -> None:
    options = {"gen_length": LENGTH, **DECODERS[decoder]}
    expected = generate(tiny_models[family], prompts, Naive(**parameters), **options)
    same(generate(tiny_models[family], prompts, make_cache("sparse", **parameters), **options), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_keeping_everything_is_a_dual_cache_refreshed_in_the_second_forward(
    family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    class LateDual(KVCache):
        def rows(self, step: Step) -> Tensor | None:
            shift = step.canvas.shift
            full = torch.tensor(step.block_step).unsqueeze(1) < 2
            return full | step.block.roll(-shift, dims=1)

    options = {"gen_length": LENGTH, "block_length": 8}
    cache = make_cache("sparse", keep_ratio=1.0, kernel_size=1)
    expected = generate(tiny_models[family], prompts, LateDual(), **options)
    same(generate(tiny_models[family], prompts, cache, **options), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_forwards_per_block_are_exact(
    family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    options = {"gen_length": LENGTH, "block_length": 8, "steps": 4}
    expected = generate(tiny_models[family], prompts, **options)
    same(generate(tiny_models[family], prompts, "sparse", **options), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_of_one_token(family: str, tiny_models: dict[str, Transformer]) -> None:
    options = {"gen_length": 8, "block_length": 4}
    expected = generate(tiny_models[family], [[5], [1, 2, 3]], Naive(), **options)
    same(generate(tiny_models[family], [[5], [1, 2, 3]], "sparse", **options), expected)


def test_of_equal_scores_the_lowest_columns_win(tiny_models: dict[str, Transformer]) -> None:
    canvas = tiny_models["llada"].canvas(torch.ones(1, 12, dtype=torch.bool), 8, 4)
    masked = torch.ones(1, 12, dtype=torch.bool)
    cache = SparseCache(keep_ratio=0.5, kernel_size=3)
    cache.start(canvas)
    ids = torch.zeros(1, 12, dtype=torch.long)
    for number in range(2):
        step = Step(canvas, ids, masked, masked, number, [0], [number], [(4, 8)])
        cache.rows(step)
    query, key = (
        torch.ones(12, canvas.num_heads, canvas.head_dim),
        torch.zeros(12, canvas.num_kv_heads, canvas.head_dim),
    )
    assert cache._choose(0, query, key, step).tolist() == [0, 1, 2, 3]
    key[10] = 1  # pooling lifts its neighbours as well, and 8 is a neighbour of 3
    assert cache._choose(0, query, key, step).tolist() == [0, 9, 10, 11]
    key[3] = 2
    assert cache._choose(0, query, key, step).tolist() == [2, 3, 8, 9]


def test_a_smaller_share_holds_fewer_bytes_and_any_store_works(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    def held(ratio: float, store: str = "native") -> int:
        cache = make_cache("sparse", keep_ratio=ratio)
        options = {"gen_length": LENGTH, "block_length": 4, "store": store}
        return generate(tiny_models["llada"], prompts, cache, **options).counts.cache_bytes

    assert held(0.25) < held(0.5) < held(1.0)
    assert held(0.5, "int8") < held(0.5)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"keep_ratio": 1.5}, "'keep_ratio' must be between 0 and 1, not 1.5"),
        ({"kernel_size": 2}, "'kernel_size' must be odd and at least 1"),
        ({"kernel_size": 0}, "'kernel_size' must be odd and at least 1"),
        ({"ties": "highest"}, "value of cache parameter 'ties'.*lowest"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_cache("sparse", **parameters)
