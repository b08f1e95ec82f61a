"""The `Cache` interface: advice around three joints of the model, plain defaults at each of them.

The joints are the step (which rows of the canvas run), the attention sub-block and the feed-forward sub-block of a
layer. A model calls the cache; nothing is patched. Most caches only override `Cache.rows` on top of `KVCache`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from cache_zoo.cache_bytes import held_bytes
from cache_zoo.rows import Rows
from cache_zoo.state import Canvas, Outcome, Step


class AttentionBlock(Protocol):
    """The attention sub-block of one layer in one forward, as a cache may use it.

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

        ``mask`` (BoolTensor ``[B, S]``) says which keys may be attended and ``counts`` how many those are per
        sequence; without them ``S`` must be ``T`` and every valid canvas position is attended.
        """

    def attend_observed(self, query: Tensor, rows: Rows, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """`attend` over the canvas, and the head mean of its weights, float32 ``[N, T]``."""

    def output(self, mixed: Tensor) -> Tensor:
        """Output projection, ``[N, H * E]`` to ``[N, D]``."""


class FeedForwardBlock(Protocol):
    """The feed-forward sub-block of one layer, its norm included, as a cache may use it."""

    def __call__(self, x: Tensor) -> Tensor:
        """``[N, D]`` of the residual stream to ``[N, D]`` to be added to it."""


class Cache:
    """No cache: every row in every step. The base class of all others.

    One object serves one generation at a time; `start` resets it. ``B`` sequences, ``T`` canvas columns, ``N`` packed
    rows of the step (see `cache_zoo.rows.Rows`).
    """

    paper: ClassVar[str] = ""
    """Where the method comes from: title and arXiv id."""
    needs_attention: ClassVar[bool] = False
    """Wants the head-mean attention of the rows that ran (`observe_attention`)."""
    needs_blocks: ClassVar[bool] = False
    """Pointless unless ``block_length < gen_length``."""
    exact: ClassVar[bool] = False
    """Decodes what full recomputation decodes, whatever its parameters."""
    exact_with: ClassVar[dict[str, Any] | None] = None
    """Parameters that make it recompute everything, so that it decodes exactly what no cache does (with
    ``needs_blocks``: as long as each block takes one forward). None: there are none. The contract test holds it to it.
    """
    also_called: ClassVar[dict[str, dict[str, Any]]] = {}
    """Registered names that stand for this class with these parameters; both spellings are one run. Not inherited."""

    def start(self, canvas: Canvas) -> None:
        """Forget everything; called once per generation before the first step."""

    def rows(self, step: Step) -> Tensor | None:
        """Positions that run in this step, BoolTensor ``[B, T]``, or None for all of them.

        Rows at padding are dropped by the caller. The first step must run everything a later one relies on.
        """
        return None

    def confidence_positions(self, step: Step) -> Tensor | None:
        """Masked positions whose confidence `end_step` needs, BoolTensor ``[B, T]``; None: what the decoder reads."""
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
        """What the forward led to, once the decoder has committed tokens."""

    def drop_finished(self, kept: Tensor) -> None:
        """Sequences ``kept`` (LongTensor of batch indices) go on, the others have left the batch."""

    def nbytes(self) -> int:
        """Bytes of all tensors held now, however nested; none of the canvas, the step or the model."""
        return held_bytes(self)


class KVCache(Cache):
    """Keys and values of every canvas position and layer, kept between steps.

    Keys are stored rotated: positions do not move, so this is bit-identical to storing them before RoPE and saves one
    rotation of the whole canvas per layer and step.
    """

    _keys: Tensor
    _values: Tensor

    def start(self, canvas: Canvas) -> None:
        """Allocate ``[layers, B, T, G, E]`` for keys and for values."""
        shape = (canvas.num_layers, *canvas.shape, canvas.num_kv_heads, canvas.head_dim)
        self._keys = torch.empty(shape, dtype=canvas.dtype, device=canvas.device)
        self._values = torch.empty_like(self._keys)
        if canvas.key_mask is not None:
            # Padding is masked in attention, but a weight of zero times a NaN left in fresh memory is a NaN.
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
