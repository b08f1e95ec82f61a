"""The `Cache` interface: hooks at three points of the model, each with a default.

The points are the step (which rows of the canvas run), the attention sub-block and the feed-forward sub-block of a
layer. The model calls the cache; nothing is patched. Most caches derive from `KVCache` and override only `Cache.rows`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from cache_zoo.blocks import AttentionBlock, FeedForwardBlock
from cache_zoo.cache_bytes import held_bytes
from cache_zoo.rows import Ranges
from cache_zoo.state import Canvas, Outcome, Step
from cache_zoo.stores import Store, make_store


class Cache:
    """Base class: runs every row in every step.

    One object serves one generation at a time; `start` resets it. ``B`` sequences, ``T`` canvas columns, ``N`` packed
    rows of the step (see `cache_zoo.rows.Rows`).
    """

    paper: ClassVar[str] = ""
    """Source of the method: title and arXiv id."""
    needs_attention: ClassVar[bool] = False
    """Needs the head-mean attention of the rows that ran (`observe_attention`)."""
    needs_entropy: ClassVar[bool] = False
    """Needs the entropy of each committed token's distribution (`Outcome.entropy`)."""
    needs_planned: ClassVar[bool] = False
    """Needs to know before a forward which positions it will commit (`Step.planned`)."""
    needs_blocks: ClassVar[bool] = False
    """Saves nothing unless ``block_length < gen_length``."""
    keeps_columns: ClassVar[bool] = True
    """Has keys and values of every visible column in every forward; leave-one-out rows attend to all of them."""
    peaks_inside: ClassVar[bool] = False
    """Holds most in the middle of a forward that is not the one of the most rows: its bytes are then measured in every
    layer of every forward, which takes time. The contract finds caches that need it."""
    exact: ClassVar[bool] = False
    """Decodes what full recomputation decodes, with any parameters."""
    exact_with: ClassVar[dict[str, Any] | None] = None
    """Parameters with which it recomputes everything and so decodes exactly what no cache does (with ``needs_blocks``:
    as long as each block takes one forward). None: there are none. The contract verifies it."""
    also_called: ClassVar[dict[str, dict[str, Any]]] = {}
    """Registered names that mean this class with these parameters; both spellings are one run. Not inherited."""

    def start(self, canvas: Canvas) -> None:
        """Reset; called once per generation, before the first step. Overriding methods call this one first."""
        self._started = True

    def rows(self, step: Step) -> Tensor | Ranges | None:
        """Positions that run in this step, BoolTensor ``[B, T]``, or a range of columns ``(first, end)`` per sequence;
        None for all. Ranges are as good as a mask, and the decoder need not wait for the device to count them.

        The caller drops rows that are not visible, padding among them, and adds those that have never run
        (`Step.fresh`): in the first forward all of them.
        """
        return None

    def confidence_positions(self, step: Step) -> Tensor | None:
        """Masked positions whose confidence `end_step` needs, BoolTensor ``[B, T]``; None: those the decoder reads."""
        return None

    def enter(self, layer: int, x: Tensor, step: Step) -> Tensor:
        """Called before each layer with the residual stream ``x`` ``[N, D]`` of ``step.rows``; returns that stream.

        It may set ``step.rows`` to more rows, which then run from this layer on, and return their stream.
        """
        return x

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        """Output of the attention sub-block for the residual stream ``x`` ``[N, D]``, to be added to it."""
        rows, columns = step.rows, step.columns
        query, key, value = attn.project(attn.norm(x), rows)
        # every visible row runs, so the packed rows, padded, are the visible columns
        laid_out = rows.scatter if columns.index is None else rows.pad
        return attn.output(attn.attend(query, rows, laid_out(key), laid_out(value)))

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

    Keys are stored rotated. A position that moves runs again, so this is bit-identical to storing them before RoPE, and
    it saves one rotation of the whole canvas per layer and step.

    Attributes:
        store: holds them, of the kind that ``canvas.store`` names.
    """

    store: Store

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        self.store = make_store(canvas)

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        rows = step.rows
        query, key, value = attn.project(attn.norm(x), rows)
        self.store.write(layer, rows, key, value)
        keys, values = self.store.read(layer, step.columns)
        if not self.needs_attention:
            return attn.output(attn.attend(query, rows, keys, values))
        mixed, weights = attn.attend_observed(query, rows, keys, values)
        self.observe_attention(layer, weights, step)
        return attn.output(mixed)

    def drop_finished(self, kept: Tensor) -> None:
        self.store.keep(kept)
