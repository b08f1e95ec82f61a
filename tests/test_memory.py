"""Bytes of a cache: every reachable tensor once, and the peak within a step."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from cache_zoo import Cache, FeedForwardBlock, KVCache, Outcome, Rows, Step, Suffix, caches, make_cache
from cache_zoo.blocks import AttentionBlock
from generation import generate
from models import Transformer

PROMPT, GENERATED = 11, 16
COLUMNS = PROMPT + GENERATED


def most(model: Transformer, cache: Cache | str, prompts: int = 1, **options: Any) -> int:
    ids = [list(range(1, PROMPT + 1))] * prompts
    return generate(model, ids, cache, gen_length=GENERATED, block_length=8, **options).counts.cache_bytes


def keys_and_values(model: Transformer) -> int:
    config = model.config
    return 2 * config.num_layers * COLUMNS * config.num_kv_heads * config.head_dim * 4


def by_hand(name: str, model: Transformer) -> int:
    """The most that a built-in cache with its defaults holds for one prompt, in float32."""
    layers, width = model.config.num_layers, model.config.hidden_size
    if name == "none":
        return 0
    if name == "dllm":
        outputs = 2 * layers * COLUMNS * width * 4
        rows = COLUMNS * 8 + int(0.25 * GENERATED) * 8  # of prompt and response, and of those chosen between
        return keys_and_values(model) + outputs + rows
    if name == "d2cache":  # the first forward runs all rows, and its attention is kept for the end of the step
        return keys_and_values(model) + layers * COLUMNS * COLUMNS * 4
    if name == "elastic":  # the inputs of all layers but the first, queries, three masks, a flag, the rows of the block
        return keys_and_values(model) + (2 * layers - 1) * COLUMNS * width * 4 + 3 * COLUMNS + 1 + 8 * 8
    if name == "dyllm":  # contexts and outputs, the rows salient in each layer (all in full forwards), a mask, a flag
        return keys_and_values(model) + layers * COLUMNS * (2 * width * 4 + 8) + COLUMNS + 1
    if name == "sparsed":  # the canvas is one block
        return layers * model.config.num_heads
    if name == "sparse":  # slots and their columns, and what was chosen from what, by index
        slots, block, outside = int(0.5 * COLUMNS), 8, COLUMNS - 8
        return keys_and_values(model) * slots // COLUMNS + 8 * (layers * slots + block + outside + outside // 2)
    if name == "maskkv":  # until the first forward ends: prompt, votes, preferences, changes
        heads = model.config.num_kv_heads
        return keys_and_values(model) * PROMPT // COLUMNS + 4 * layers * (heads * PROMPT + heads + 1)
    if name == "entropy":  # the step of each token, and whether the next forward is full
        return keys_and_values(model) + 8 * COLUMNS + 1
    if name == "dsb":  # tokens since the last refresh, and where the block began
        return keys_and_values(model) + 2 * 8
    if name in ("dkv", "dkv_greedy"):  # rows that run again
        return keys_and_values(model) + COLUMNS
    assert name in ("prefix", "dual", "vicinity", "freecache"), f"count by hand what '{name}' holds"
    return keys_and_values(model)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("family", ["llada", "dream"])
@pytest.mark.parametrize("name", [entry.name for entry in caches.entries() if entry.package is None])
def test_the_built_in_caches_equal_a_count_by_hand(name: str, family: str, tiny_models: dict[str, Transformer]) -> None:
    model = tiny_models[family]
    order = {"alg": "random"} if make_cache(name).needs_planned else {}
    assert most(model, name, **order) == by_hand(name, model)


class Maps(KVCache):
    """Keeps the attention of a forward until the end of the step, and no longer."""

    paper = "made up"
    needs_attention: ClassVar[bool] = True

    def start(self, canvas: Any) -> None:
        super().start(canvas)
        self.maps: dict[str, list[Tensor]] = {"seen": []}

    def observe_attention(self, layer: int, weights: Tensor, step: Step) -> None:
        self.maps["seen"].append(weights)

    def end_step(self, step: Step, outcome: Outcome) -> None:
        self.maps["seen"].clear()


class Late(Cache):
    """Holds something only once a step has ended."""

    paper = "made up"

    def start(self, canvas: Any) -> None:
        super().start(canvas)
        self.held: Tensor | None = None

    def rows(self, step: Step) -> None:
        self.held = None

    def end_step(self, step: Step, outcome: Outcome) -> None:
        self.held = torch.zeros(1000)


class Passing(Maps):
    """Keeps the attention of a forward until the last layer has run."""

    def feed_forward(self, layer: int, x: Tensor, ffn: FeedForwardBlock, step: Step) -> Tensor:
        out = super().feed_forward(layer, x, ffn, step)
        if layer == step.canvas.num_layers - 1:
            self.maps["seen"].clear()
        return out


class Middle(Cache):
    """Holds something from the attention of layer 0 to that of layer 1, but not in the first forward."""

    paper = "made up"
    peaks_inside: ClassVar[bool] = True

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        self.held = torch.zeros(1000) if layer == 0 and step.index > 0 else None
        return super().attention(layer, x, attn, step)


class Near(Suffix):
    """The columns behind the current block do not take part."""

    paper = "made up"

    def visible(self, step: Step) -> Tensor:
        return step.canvas.columns < step.block_end


def test_the_most_is_taken_within_the_forward(tiny_models: dict[str, Transformer]) -> None:
    model = tiny_models["llada"]
    maps = model.config.num_layers * COLUMNS * COLUMNS * 4
    assert most(model, Passing()) == keys_and_values(model) + maps
    assert most(model, Passing(), suffix=Near()) == keys_and_values(model) + maps, "the first forward runs fewer rows"
    assert most(model, Middle()) == 4000


def test_the_most_is_taken_within_the_step(tiny_models: dict[str, Transformer]) -> None:
    model = tiny_models["llada"]
    maps = model.config.num_layers * COLUMNS * COLUMNS * 4
    assert most(model, Maps()) == keys_and_values(model) + maps
    assert most(model, Late()) == 4000


@dataclass
class Record:
    inside: Any


class Slotted:
    __slots__ = ("inside",)

    def __init__(self, inside: Any) -> None:
        self.inside = inside


class Derived(Slotted):
    """With slots of its base and its own attributes."""


def nested(kind: str, tensor: Tensor) -> Any:
    """``tensor`` in every kind of holder."""
    derived = Derived(None)
    derived.other = tensor  # type: ignore[attr-defined]
    circle: list[Any] = [tensor]
    circle.append({"self": circle})
    return {
        "list": [tensor],
        "tuple of lists": ([[tensor]],),
        "dict of dicts": {1: {"a": {"b": tensor}}},
        "key": {tensor: 1},
        "set": {tensor},
        "frozen set": frozenset([tensor]),
        "deque": deque([None, tensor], maxlen=3),
        "dataclass": Record([tensor]),
        "slots": Slotted({"x": tensor}),
        "slots and attributes": derived,
        "object": SimpleNamespace(deep=SimpleNamespace(deeper=tensor)),
        "circle": circle,
        "closure": lambda: tensor,
        "partial": partial(print, tensor),
        "method": Slotted(tensor).__init__,  # type: ignore[misc]
        "module": torch.nn.ParameterList([torch.nn.Parameter(tensor)]),
        "cache": Holder(tensor),
        "rows": Rows(tensor, [1], (1, 1)),
        "sparse": torch.sparse_coo_tensor(
            torch.zeros(0, 1, dtype=torch.long), tensor[None], (250,), check_invariants=False
        ),
        "attribute of a tensor": with_attribute(tensor),
    }[kind]


def with_attribute(tensor: Tensor) -> Tensor:
    plain = torch.zeros(0)
    plain.scale = tensor  # type: ignore[attr-defined]
    return plain


class Holder(Cache):
    """Holds its argument."""

    paper = "made up"

    def __init__(self, *inside: Any) -> None:
        self.inside = inside


KINDS = (
    "list,tuple of lists,dict of dicts,key,set,frozen set,deque,dataclass,slots,slots and attributes,object,circle,"
    "closure,partial,method,module,cache,rows,sparse,attribute of a tensor"
).split(",")


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_found_however_nested(kind: str, tiny_models: dict[str, Transformer]) -> None:
    cache = Holder(nested(kind, torch.zeros(250)))
    assert cache.nbytes() == 1000
    assert most(tiny_models["llada"], cache) == 1000


def test_a_memory_counts_once_and_whole() -> None:
    memory = torch.zeros(1000)
    assert Holder(memory, memory, memory[:10], {"view": memory.view(10, 100)[3]}).nbytes() == 4000
    assert Holder(memory[:10]).nbytes() == 4000, "a view keeps the whole memory"
    assert Holder(memory, memory.clone()).nbytes() == 8000
    assert Holder(torch.zeros(10, device="meta"), torch.zeros(0), None, "text").nbytes() == 0


class Borrower(Cache):
    """Holds its argument and 100 bytes."""

    paper = "made up"

    def start(self, canvas: Any) -> None:
        super().start(canvas)
        self.canvas, self.names = canvas, {"valid": canvas.valid, "columns": canvas.columns[:, 1:]}
        self.own = torch.zeros(100, dtype=torch.uint8)

    def rows(self, step: Step) -> None:
        self.ids, self.block, self.packed = step.ids, [step.block, step.masked[:, 3:]], step.rows

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        self.layer = attn.layer  # type: ignore[attr-defined]
        self.weight = attn.layer.qkv.weight[:3]  # type: ignore[attr-defined]
        return super().attention(layer, x, attn, step)


def test_nothing_of_the_canvas_the_step_or_the_model_counts(tiny_models: dict[str, Transformer]) -> None:
    cache = Borrower()
    assert most(tiny_models["dream"], cache, prompts=2) == 100


def test_an_own_count_is_taken_as_it_is(tiny_models: dict[str, Transformer]) -> None:
    class Own(Cache):
        def nbytes(self) -> int:
            return 77

    assert most(tiny_models["llada"], Own()) == 77
