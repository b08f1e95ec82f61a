"""Choices inside a forward that some sources recorded: rows by layer, kept keys, attended blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from cache_zoo import AttentionBlock, Cache, Rows, Step
from tests.conformance.case import Case


@dataclass
class Layer:
    """What a layer did in a forward.

    Attributes:
        projected: positions whose key was computed.
        attended: BoolTensor ``[H, W, T]``, canvas columns that each head attended to from each row.
        feed_forward: rows of the feed-forward block.
    """

    projected: list[int]
    attended: Tensor | None = None
    feed_forward: int = 0


Forward = list[Layer]


@contextmanager
def watch(cache: Cache) -> Iterator[list[Forward]]:
    """A list of what each layer does in each forward that ``cache`` takes part in."""
    forwards: list[Forward] = []
    newest: dict[int, Tensor] = {}
    attention, feed_forward = cache.attention, cache.feed_forward

    def watched_attention(layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        if layer == 0:
            forwards.append([])
        forwards[-1].append(Layer([]))
        return attention(layer, x, _Watched(attn, layer, forwards[-1][-1], newest, step), step)

    def watched_feed_forward(layer: int, x: Tensor, ffn: Callable[[Tensor], Tensor], step: Step) -> Tensor:
        def counted(rows: Tensor) -> Tensor:
            forwards[-1][layer].feed_forward += len(rows)
            return ffn(rows)

        return feed_forward(layer, x, counted, step)

    with patch.object(cache, "attention", watched_attention), patch.object(cache, "feed_forward", watched_feed_forward):
        yield forwards


class _Watched:
    """An attention block that notes what it is asked for."""

    def __init__(self, attn: AttentionBlock, number: int, layer: Layer, newest: dict[int, Tensor], step: Step) -> None:
        self._attn, self._number, self._layer, self._newest, self._step = attn, number, layer, newest, step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._attn, name)

    def project(self, h: Tensor, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self._attn.project(h, rows)
        self._note(rows, key)
        return query, key, value

    def query_key(self, h: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        query, key = self._attn.query_key(h, rows)
        self._note(rows, key)
        return query, key

    def key_value(self, h: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        key, value = self._attn.key_value(h, rows)
        self._note(rows, key)
        return key, value

    def attend(self, query: Tensor, rows: Rows, keys: Tensor, values: Tensor, **given: Any) -> Tensor:
        shape = (query.shape[1], len(rows), keys.shape[1])
        mask = given.get("mask")
        seen = torch.ones(shape, dtype=torch.bool) if mask is None else _by_head(mask[0], shape)
        # a key is known by its value: it is the newest of some column
        column = (keys[0].flatten(1)[:, None] == self._newest[self._number][None]).all(dim=2)
        self._layer.attended = (seen.float() @ column.float()) > 0
        return self._attn.attend(query, rows, keys, values, **given)

    def _note(self, rows: Rows, key: Tensor) -> None:
        held = self._newest.setdefault(self._number, key.new_full((self._step.ids.shape[1], key[0].numel()), torch.nan))
        held[rows.index] = key.flatten(1)
        self._layer.projected += rows.index.tolist()


def _by_head(mask: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """BoolTensor ``[S]``, ``[G, S]`` or ``[H, W, S]`` as the last."""
    if mask.dim() == 2:
        mask = mask.repeat_interleave(shape[0] // mask.shape[0], dim=0).unsqueeze(1)
    return mask.expand(shape)


def recorded_choices(case: Case) -> list[str]:
    """Names of the choices that ``case`` recorded, of a batch of one."""
    if case.batch > 1:
        return []
    return [name for name in _CHECKS if name in case.expected or name in case.expected["forwards"][0]]


def internal_differences(case: Case, forwards: list[Forward]) -> list[str]:
    """Where ``forwards``, one per recorded model call, differ from the recorded choices."""
    found = []
    for name in recorded_choices(case):
        wrong = next(_CHECKS[name](case, forwards), None)
        if wrong is not None:
            found.append(f"{name} of forward {wrong[0]}, layer {wrong[1]} differ")
    return found


def _salient(case: Case, forwards: list[Forward]) -> Iterator[tuple[int, int]]:
    """DyLLM: rows whose context changed get keys and values in the next layer, and feed-forward in this one."""
    for number, (record, forward) in enumerate(zip(case.expected["forwards"], forwards, strict=False)):
        for layer, rows in enumerate(record["salient_rows"]):
            following = forward[layer + 1].projected if layer + 1 < len(forward) else rows
            if sorted(following) != rows or forward[layer].feed_forward != len(rows):
                yield number, layer


def _kept(case: Case, forwards: list[Forward]) -> Iterator[tuple[int, int]]:
    """Sparse-dLLM: columns outside the block that the forward after ``call`` attends to."""
    records = case.expected["forwards"]
    for call, layer, kept in case.expected["kept_positions"]:
        after = call + 1
        if after >= len(forwards) or records[after]["block"] != records[call]["block"]:
            continue
        attended = forwards[after][layer].attended
        assert attended is not None
        first = case.start + records[call]["block"] * case.block
        columns = attended.any(dim=1).all(dim=0).nonzero().flatten().tolist()
        if [column for column in columns if not first <= column < first + case.block] != kept:
            yield after, layer


def _blocks(case: Case, forwards: list[Forward]) -> Iterator[tuple[int, int]]:
    """SparseD: blocks of keys that each head attends to from each block of queries, once they are chosen."""
    size = case.params["block_size"]
    for number in range(case.expected["mask_step"] + 1, len(forwards)):
        for layer, heads in enumerate(case.expected["kept_blocks"]):
            attended = forwards[number][layer].attended
            assert attended is not None
            for head, queries in enumerate(heads):
                for row in range(case.length):
                    blocks = sorted({column // size for column in attended[head, row].nonzero().flatten().tolist()})
                    if blocks != queries[row // size]:
                        yield number, layer


_CHECKS = {"salient_rows": _salient, "kept_positions": _kept, "kept_blocks": _blocks}
