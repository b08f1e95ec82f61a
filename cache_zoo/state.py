"""What a cache sees: the canvas (fixed during a generation), the step (before a forward) and its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from cache_zoo.rows import Rows


@dataclass(frozen=True)
class Canvas:
    """Shapes that stay fixed while the sequences of one batch are generated.

    A canvas is ``[B, T]`` with ``T = prompt_length + gen_length``: left padding, prompt, generated part.

    Attributes:
        valid: BoolTensor ``[B, T]``, False at left padding.
        lengths: valid positions of each sequence, ``B`` host integers.
        positions: LongTensor ``[B, T]``, position ids (0 at a sequence's first valid token).
        prompt_length: columns before the generated part, padding included.
        gen_length: columns of the generated part.
        block_length: width of one semi-autoregressive block; equals ``gen_length`` for full-canvas decoding.
        shift: 1 where row ``j - 1`` predicts token ``j`` (models adapted from autoregressive ones), else 0.
        num_layers, num_kv_heads, head_dim, hidden_size: sizes of the network.
        dtype: dtype of activations, keys and values.
    """

    valid: Tensor
    lengths: list[int]
    positions: Tensor
    prompt_length: int
    gen_length: int
    block_length: int
    shift: int
    num_layers: int
    num_kv_heads: int
    head_dim: int
    hidden_size: int
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, int]:
        return self.valid.shape[0], self.valid.shape[1]

    @property
    def device(self) -> torch.device:
        return self.valid.device

    @cached_property
    def key_mask(self) -> Tensor | None:
        """BoolTensor ``[B, T]`` of the keys to attend, or None without padding."""
        return None if min(self.lengths) == self.shape[1] else self.valid

    @cached_property
    def columns(self) -> Tensor:
        """LongTensor ``[1, T]``: 0 .. T-1."""
        return torch.arange(self.shape[1], device=self.device).unsqueeze(0)

    @cached_property
    def all_rows(self) -> Rows:
        """Every valid position."""
        return Rows.from_mask(self.valid)

    def keep(self, kept: Tensor) -> Canvas:
        """The canvas of the sequences ``kept`` (LongTensor)."""
        lengths = [self.lengths[b] for b in kept.tolist()]
        return replace(self, valid=self.valid[kept], lengths=lengths, positions=self.positions[kept])


@dataclass
class Step:
    """The state before one forward, read-only for caches.

    Attributes:
        canvas: the canvas of the sequences still running; ``B`` is their number.
        ids: LongTensor ``[B, T]``, the current tokens.
        masked: BoolTensor ``[B, T]``, generated positions that hold [MASK].
        open: BoolTensor ``[B, T]``, the masked positions still to commit: all, or those before the end-of-sequence
            token where decoding stops there.
        index: forwards since the generation began, the same for all sequences of the batch, because each unfinished
            sequence takes part in every forward.
        block_index: current block of each sequence (host integers).
        block_step: forwards each sequence has spent in its current block before this one (host integers).
        rows: the rows that run, set once the cache has chosen them.
    """

    canvas: Canvas
    ids: Tensor
    masked: Tensor
    open: Tensor
    index: int = 0
    block_index: list[int] = field(default_factory=list)
    block_step: list[int] = field(default_factory=list)
    rows: Rows = field(init=False)

    def __post_init__(self) -> None:
        self.rows = self.canvas.all_rows

    @cached_property
    def block_start(self) -> Tensor:
        """LongTensor ``[B, 1]``: first column of each sequence's current block."""
        starts = [self.canvas.prompt_length + b * self.canvas.block_length for b in self.block_index]
        return torch.tensor(starts, device=self.canvas.device).unsqueeze(1)

    @cached_property
    def block(self) -> Tensor:
        """BoolTensor ``[B, T]``: the current block of each sequence."""
        columns = self.canvas.columns
        return (columns >= self.block_start) & (columns < self.block_start + self.canvas.block_length)

    @cached_property
    def committable(self) -> Tensor:
        """BoolTensor ``[B, T]``: the open positions of the current block, which this step may commit."""
        return self.open & self.block


@dataclass(frozen=True)
class Outcome:
    """Result of a forward.

    Attributes:
        live: BoolTensor ``[B, T]``, positions that were masked before the step and whose logits were computed.
        confidence: float32 ``[B, T]``, the decoder's unscaled confidence at live positions, ``-inf`` elsewhere.
        committed: BoolTensor ``[B, T]``, positions committed in this step.
        masked: BoolTensor ``[B, T]``, positions still masked after it.
    """

    live: Tensor
    confidence: Tensor
    committed: Tensor
    masked: Tensor
