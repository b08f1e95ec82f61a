"""SparseD: its blocks by definition, when it chooses them, and where it equals no cache."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cache_zoo import AttentionBlock, Cache, Step, UsageError, make_cache
from cache_zoo.methods.sparsed import SparseDCache
from cache_zoo.suffixes.dropout import DropoutSuffix
from cache_zoo.suffixes.window import WindowSuffix
from generation import GenerationOutput, generate
from models import Transformer

FAMILIES = ["llada", "dream"]
GENERATED = 16


def decode(model: Transformer, prompts: list[list[int]], cache: Cache | None, **options: Any) -> GenerationOutput:
    return generate(model, prompts, cache, trace=True, **{"gen_length": GENERATED, "block_length": 4, **options})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("parameters", "exact"),
    [
        ({"skip": 1.0, "block_size": 4}, True),
        ({"skip": 14 / 16, "block_size": 4}, True),  # 15 + 1 dense forwards of 16
        ({"skip": 0.0, "select": 1.0, "block_size": 4}, False),
        ({"skip": 0.0, "select": 0.0, "block_size": 27}, False),
    ],
    ids=str,
)
def test_dense_patterns_equal_no_cache(
    parameters: dict[str, Any], exact: bool, family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    cache = SparseDCache(**parameters)
    out, expected = decode(tiny_models[family], prompts, cache), decode(tiny_models[family], prompts, None)
    assert torch.equal(out.tokens, expected.tokens)
    for ours, theirs in zip(out.trace or [], expected.trace or [], strict=True):
        if exact:
            assert torch.equal(ours.confidence, theirs.confidence)
        else:
            torch.testing.assert_close(ours.confidence, theirs.confidence)
    assert exact or all(blocks.all() for blocks in cache.kept)


class Noting(SparseDCache):
    """Notes queries and keys of the forward in which the pattern is chosen, ``[B, T, heads, E]`` per layer."""

    def start(self, canvas: Any) -> None:
        super().start(canvas)
        self.noted: list[tuple[Tensor, Tensor]] = []
        self.chosen_in: int | None = None

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        before = len(self.kept)
        out = super().attention(layer, x, attn, step)
        if len(self.kept) > before:
            query, key, _ = attn.project(attn.norm(x), step.rows)
            self.noted.append((step.rows.scatter(query), step.rows.scatter(key)))
            self.chosen_in = step.index
        return out


def top(values: Tensor, count: int) -> set[int]:
    order = sorted(range(len(values)), key=lambda j: (-values[j].item(), j))
    return set(order[: min(count, len(values))])


def by_definition(query: Tensor, key: Tensor, size: int, select: float, scale: float) -> list[list[set[int]]]:
    """Blocks kept by head and block of queries, from one sequence without padding, ``[L, heads, E]`` in float64."""
    length, heads = query.shape[:2]
    key = key.repeat_interleave(heads // key.shape[1], dim=1)
    count = math.ceil(length / size)
    border = next((g for g in range(count) if length - g * size <= GENERATED), count - 1)
    kept: list[list[set[int]]] = []
    for head in range(heads):
        scores = query[:, head] @ key[:, head].T / math.sqrt(scale)
        whole, own = scores.softmax(dim=1), scores[:, border * size :].softmax(dim=1)
        kept.append([])
        for i in range(count):
            rows = slice(i * size, (i + 1) * size)
            importance = torch.stack([whole[rows, j * size : (j + 1) * size].sum() for j in range(count)])
            first = {j for j in top(importance, int(count * select) + 1) if j < border}
            importance = torch.stack([own[rows, j * size : (j + 1) * size].sum() for j in range(count - border)])
            second = {border + j for j in top(importance, int((count - border) * select) + 1)}
            kept[-1].append(first | second)
    return kept


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scale", ["head_dim", "num_heads"])
@pytest.mark.parametrize(("size", "select"), [(4, 0.3), (5, 0.5), (3, 0.0), (20, 0.9)])
def test_the_blocks_are_those_of_the_definition(
    size: int, select: float, scale: Any, family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    model = tiny_models[family]
    cache = Noting(skip=0.2, select=select, block_size=size, scale=scale)
    decode(model, prompts, cache, block_length=16)
    assert cache.chosen_in == int(0.2 * 16) + 1
    width = max(map(len, prompts)) + GENERATED
    for (query, key), kept in zip(cache.noted, cache.kept, strict=True):
        for b, prompt in enumerate(prompts):
            start, count = width - len(prompt) - GENERATED, math.ceil((len(prompt) + GENERATED) / size)
            expected = by_definition(
                query[b, start:].double(), key[b, start:].double(), size, select, getattr(model.config, scale)
            )
            ours = kept[b, :, :count, :count]
            assert [[set(row.nonzero().flatten().tolist()) for row in head] for head in ours] == expected


def test_rows_attend_to_their_blocks_and_no_others(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    """The pairs counted are those of the pattern, and values of other blocks do not matter."""
    cache, prompt = SparseDCache(skip=0.0, select=0.3, block_size=4), prompts[0]
    last = (decode(tiny_models["llada"], [prompt], cache, block_length=16).trace or [])[-1]
    sizes = torch.tensor([4] * 6 + [3])
    pairs = [(sizes[:, None] * sizes * kept[0]).sum().item() / kept.shape[1] for kept in cache.kept]
    assert last.work.pairs == pytest.approx(pairs)
    assert max(pairs) < 27 * 27


@pytest.mark.parametrize("options", [{"num_transfer_tokens": 2}, {"steps": 8}, {"threshold": 0.9}], ids=str)
def test_the_pattern_is_chosen_after_its_share_of_the_schedule(
    options: dict[str, Any], tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    cache = Noting(skip=0.5, select=0.3, block_size=4)
    decode(tiny_models["llada"], prompts, cache, **options)
    assert cache.chosen_in == (9 if "threshold" in options else 5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("suffix", [WindowSuffix(window=1), DropoutSuffix()], ids=lambda suffix: type(suffix).__name__)
def test_hidden_columns_are_seen_when_they_appear(
    suffix: Any, family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    options: dict[str, Any] = {"suffix": suffix, "seed": [1, 2, 3]}
    cache = SparseDCache(skip=0.0, select=0.0, block_size=2)
    batch = decode(tiny_models[family], prompts, cache, **options)
    assert not batch.tokens.eq(tiny_models[family].config.mask_id).any()
    for b, prompt in enumerate(prompts):
        alone = decode(tiny_models[family], [prompt], cache, **options | {"seed": b + 1})
        assert torch.equal(alone.tokens[0], batch.tokens[b])


def test_it_says_what_it_does_not_take() -> None:
    for parameters, message in (
        ({"skip": 1.5}, "'skip' must be between 0 and 1, not 1.5"),
        ({"select": -0.1}, "'select' must be between 0 and 1, not -0.1"),
        ({"block_size": 0}, "'block_size' must be at least 1, not 0"),
        ({"scale": "head_dims"}, "did you mean 'head_dim'"),
    ):
        with pytest.raises(UsageError, match=message):
            make_cache("sparsed", **parameters)
