"""The `Cache` interface: hooks at three points of the model, each with a default.

The points are the step (which rows of the canvas run), the attention sub-block and the feed-forward sub-block of a
layer. The model calls the cache; nothing is patched. Most caches derive from `KVCache` and override only `Cache.rows`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from cache_zoo.cache_bytes import held_bytes
from cache_zoo.rows import Rows
from cache_zoo.state import Canvas, Outcome, Step


class AttentionBlock(Protocol):
    """The attention sub-block of one layer in one forward.

    ``N`` rows, ``D`` model width, ``H`` query heads, ``G`` key/value heads, ``E`` width of a head, ``S`` keys.
    """

    def norm(self, x: Tensor) -> Tensor:
        """Pre-attention norm, ``[N, D]`` to ``[N, D]``."""

    def project(self, h: Tensor, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Query ``[N, H, E]``, key and value ``[N, G, E]`` of normed rows; query and key are rotated (RoPE)."""

    def query_key(self, h: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Query and key alone, rotated."""

    def value(self, h: Tensor) -> Tensor:
        """Value alone, ``[N, G, E]``."""

    def attend(
        self,
        query: Tensor,
        rows: Rows,
        keys: Tensor,
        values: Tensor,
        *,
        mask: Tensor | None = None,
        counts: list[int] | None = None,
    ) -> Tensor:
        """Attention of ``query`` over ``keys`` and ``values`` ``[B, S, G, E]``; returns ``[N, H * E]``.

        ``mask`` (BoolTensor ``[B, S]``) holds the keys to attend and ``counts`` their number per sequence; without
        them ``S`` must be ``T``, and every valid canvas position is attended.
        """

    def attend_observed(self, query: Tensor, rows: Rows, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """`attend` over the canvas, and the mean of its weights over heads, float32 ``[N, T]``."""

    def output(self, mixed: Tensor) -> Tensor:
        """Output projection, ``[N, H * E]`` to ``[N, D]``."""


class FeedForwardBlock(Protocol):
    """The feed-forward sub-block of one layer, including its norm."""

    def __call__(self, x: Tensor) -> Tensor:
        """The output ``[N, D]`` for ``x`` ``[N, D]``, to be added to the residual stream."""


class Cache:
    """Base class: runs every row in every step.

    One object serves one generation at a time; `start` resets it. ``B`` sequences, ``T`` canvas columns, ``N`` packed
    rows of the step (see `cache_zoo.rows.Rows`).
    """

    paper: ClassVar[str] = ""
    """Source of the method: title and arXiv id."""
    needs_attention: ClassVar[bool] = False
    """Needs the head-mean attention of the rows that ran (`observe_attention`)."""
    needs_blocks: ClassVar[bool] = False
    """Saves nothing unless ``block_length < gen_length``."""
    exact: ClassVar[bool] = False
    """Decodes what full recomputation decodes, with any parameters."""
    exact_with: ClassVar[dict[str, Any] | None] = None
    """Parameters with which it recomputes everything and so decodes exactly what no cache does (with ``needs_blocks``:
    as long as each block takes one forward). None: there are none. The contract verifies it."""
    also_called: ClassVar[dict[str, dict[str, Any]]] = {}
    """Registered names that mean this class with these parameters; both spellings are one run. Not inherited."""

    def start(self, canvas: Canvas) -> None:
        """Reset; called once per generation, before the first step."""

    def rows(self, step: Step) -> Tensor | None:
        """Positions that run in this step, BoolTensor ``[B, T]``, or None for all.

        The caller drops rows at padding. The first step must run everything that later ones rely on.
        """
        return None

    def confidence_positions(self, step: Step) -> Tensor | None:
        """Masked positions whose confidence `end_step` needs, BoolTensor ``[B, T]``; None: those the decoder reads."""
        return None

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        """Output of the attention sub-block for the residual stream ``x`` ``[N, D]``, to be added to it."""
        rows = step.rows
        query, key, value = attn.project(attn.norm(x), rows)
        return attn.output(attn.attend(query, rows, rows.scatter(key), rows.scatter(value)))

    def feed_forward(self, layer: int, x: Tensor, ffn: FeedForwardBlock, step: Step) -> Tensor:
        """Output of the feed-forward sub-block for ``x`` ``[N, D]``, to be added to it."""
        return ffn(x)

    def observe_attention(self, layer: int, weights: Tensor, step: Step) -> None:
        """Head-mean attention weights of the step's rows, float32 ``[N, T]``; only with ``needs_attention``."""

    def end_step(self, step: Step, outcome: Outcome) -> None:
        """Called with the outcome of the forward, after the decoder has committed tokens."""

    def drop_finished(self, kept: Tensor) -> None:
        """Keep the sequences ``kept`` (LongTensor of batch indices); the others have left the batch."""

    def nbytes(self) -> int:
        """Bytes of all tensors held now, however nested, without those of the canvas, the step and the model."""
        return held_bytes(self)


class KVCache(Cache):
    """Keys and values of every canvas position and layer, kept between steps.

    Keys are stored rotated. Positions do not move, so this is bit-identical to storing them before RoPE, and it saves
    one rotation of the whole canvas per layer and step.
    """

    _keys: Tensor
    _values: Tensor

    def start(self, canvas: Canvas) -> None:
        """Allocate ``[layers, B, T, G, E]`` for keys and for values."""
        shape = (canvas.num_layers, *canvas.shape, canvas.num_kv_heads, canvas.head_dim)
        self._keys = torch.empty(shape, dtype=canvas.dtype, device=canvas.device)
        self._values = torch.empty_like(self._keys)
        if canvas.key_mask is not None:
            # Attention masks padding, but a weight of zero times a NaN in fresh memory is NaN.
            for store in (self._keys, self._values):
                store.masked_fill_(~canvas.valid[None, :, :, None, None], 0)

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        rows, keys, values = step.rows, self._keys[layer], self._values[layer]
        query, key, value = attn.project(attn.norm(x), rows)
        rows.write(keys, key)
        rows.write(values, value)
        if not self.needs_attention:
            return attn.output(attn.attend(query, rows, keys, values))
        mixed, weights = attn.attend_observed(query, rows, keys, values)
        self.observe_attention(layer, weights, step)
        return attn.output(mixed)

    def drop_finished(self, kept: Tensor) -> None:
        self._keys, self._values = self._keys[:, kept], self._values[:, kept]
