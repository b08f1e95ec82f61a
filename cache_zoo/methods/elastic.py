"""Elastic-Cache: few rows run, and a layer whose attention has drifted refreshes all layers above it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from cache_zoo.base import KVCache
from cache_zoo.blocks import AttentionBlock
from cache_zoo.errors import require
from cache_zoo.rows import Rows
from cache_zoo.state import Canvas, Outcome, Step


class ElasticCache(KVCache):
    """Attention-aware, depth-aware refresh (Elastic-Cache, arXiv 2510.14973, as in its code).

    The first forward runs every row. After it run the positions that may be committed (the window), those changed in
    the step before, and the tracked tokens: those that received the most attention from the masks run, in some layer of
    the step before. Keys and values of all other rows are old.

    A layer has drifted if the attention weights of the tracked rows differ from those of their stored queries and keys:
    the cosine across heads, averaged over rows and keys, is below ``gamma`` (the paper compares the weights of the most
    attended token). The layers above it then run all rows of that sequence, from the stored inputs of the next layer.
    Ties of tracked tokens go to the lowest position.

    Each sequence of a batch refreshes on its own. The window is what the strategy may commit: in the paper the first
    masks of the whole canvas, with a strategy that decodes by blocks the masks of the block.

    Args:
        gamma: similarity below which a layer has drifted; 0 or less never refreshes, more than 1 always does.
        track_num: tokens tracked per layer, at least 1.
        block_caching: run only the masks of the window; otherwise all masks.
    """

    paper = "Elastic-Cache, arXiv 2510.14973"
    exact_with: ClassVar[dict[str, Any] | None] = None

    def __init__(self, gamma: float = 0.9, track_num: int = 1, block_caching: bool = True) -> None:
        require(track_num >= 1, f"cache parameter 'track_num' must be at least 1, not {track_num}")
        self.gamma, self.track_num, self.block_caching = gamma, track_num, block_caching

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        kind: dict[str, Any] = {"dtype": canvas.dtype, "device": canvas.device}
        layers, heads = canvas.num_layers, canvas.num_heads
        # Both are written when a row first runs, and read only after that; inputs of layer 0 are never needed.
        self._inputs = torch.empty(layers - 1, *canvas.shape, canvas.hidden_size, **kind)
        self._queries = torch.empty(layers, *canvas.shape, heads, canvas.head_dim, **kind)
        self._tracked = self._changed = torch.zeros_like(canvas.valid)

    def rows(self, step: Step) -> Tensor | None:
        if step.index == 0:
            return None
        return self._tracked | self._changed | self._masks(step)

    def enter(self, layer: int, x: Tensor, step: Step) -> Tensor:
        if layer == 0:
            self._all = step.canvas.valid if step.visible is None else step.canvas.valid & step.visible
            self._window = Rows.from_mask(self._masks(step) & step.rows.mask)
            self._next_tracked, self._drifted = torch.zeros_like(self._tracked), False
            self._wide = torch.zeros_like(self._tracked[:, :1])  # sequences in which a layer has drifted
        else:  # the input of layer 0 depends on the token alone: it needs no refresh
            step.rows.write(self._inputs[layer - 1], x)
        if self._drifted:
            step.rows = Rows.from_mask(step.rows.mask | (self._all & self._wide))
            x, self._drifted = step.rows.read(self._inputs[layer - 1]), False
        return x

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        rows, queries = step.rows, self._queries[layer]
        query, key, value = attn.project(attn.norm(x), rows)
        tested = None  # a drift in the last layer has nothing to refresh, and the cosine of weights is not negative
        if layer + 1 < step.canvas.num_layers and self.gamma > 0:
            tested = Rows.from_mask(self._tracked & step.rows.mask & ~self._wide)
        if tested:
            if step.fresh is not None:  # columns without an old key
                fresh = Rows.from_mask(step.fresh)
                self.store.write(layer, fresh, key[rows.locate(fresh.index)])
            before = attn.weights(tested.read(queries), tested, self.store.read(layer, step.columns)[0])
        rows.write(queries, query)
        self.store.write(layer, rows, key, value)
        keys, values = self.store.read(layer, step.columns)
        if tested:
            self._test(before, attn.weights(tested.read(queries), tested, keys), tested, step)
        if self._window:
            self._track(attn.weights(self._window.read(queries), self._window, keys), step)
        return attn.output(attn.attend(query, rows, keys, values))

    def end_step(self, step: Step, outcome: Outcome) -> None:
        self._tracked, self._changed = self._next_tracked, outcome.changed

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        self._inputs, self._queries = self._inputs[:, kept], self._queries[:, kept]
        self._tracked, self._changed = self._tracked[kept], self._changed[kept]

    def _masks(self, step: Step) -> Tensor:
        """Rows of the window, or of all masks, BoolTensor ``[B, T]``."""
        return (step.committable if self.block_caching else step.open).roll(-step.canvas.shift, dims=1)

    def _test(self, before: Tensor, now: Tensor, tested: Rows, step: Step) -> None:
        """Note the sequences whose weights ``[M, H, S]`` of the ``tested`` rows differ."""
        similarity = tested.pad(F.cosine_similarity(before, now, dim=1).sum(dim=1)).sum(dim=1)
        pairs = [rows * keys for rows, keys in zip(tested.counts, step.columns.counts, strict=True)]
        # without tracked rows 0 < 0 is false
        drifted = similarity < self.gamma * torch.tensor(pairs, device=similarity.device)
        self._drifted = bool(drifted.any())
        self._wide = self._wide | drifted.unsqueeze(1)

    def _track(self, weights: Tensor, step: Step) -> None:
        """Note the positions, none of them masked, with the most of the window's attention ``[M, H, S]``."""
        received = step.columns.scatter(self._window.pad(weights.sum(dim=1)).sum(dim=1))
        known = self._all & ~step.open
        order = received.masked_fill(~known, -torch.inf).sort(dim=1, descending=True, stable=True).indices
        self._next_tracked |= torch.zeros_like(known).scatter_(1, order[:, : self.track_num], True) & known
