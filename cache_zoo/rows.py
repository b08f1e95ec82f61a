"""Canvas positions that run in a forward ("rows"), packed without padding.

Sequences of one batch may run different numbers of rows. Row-wise computations (projections, norms, feed-forward, head)
use the packed form ``[N, ...]``; only attention needs the padded form ``[B, W, ...]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

Ranges: TypeAlias = Sequence[tuple[int, int]]
"""Of each sequence the first column of a range, and the column behind its last one."""


class Rows:
    """Positions of a ``[B, T]`` canvas, packed in canvas order.

    Attributes:
        index: LongTensor ``[N]``, flat positions ``b * T + j`` in ascending order.
        counts: rows of each sequence, ``B`` host integers that sum to ``N``.
        shape: ``(B, T)`` of the canvas.
    """

    def __init__(self, index: Tensor, counts: list[int], shape: tuple[int, int]) -> None:
        self.index = index
        self.counts = counts
        self.shape = shape
        self.width = max(counts, default=0)
        self.uniform = all(count == self.width for count in counts)
        self.complete = self.uniform and self.width == shape[1]

    @classmethod
    def from_mask(cls, mask: Tensor) -> Rows:
        """The rows where BoolTensor ``mask`` ``[B, T]`` is true. Synchronises with the device once."""
        counts = mask.sum(dim=1).tolist()
        return cls(mask.flatten().nonzero().squeeze(1), counts, (mask.shape[0], mask.shape[1]))

    @classmethod
    def from_ranges(cls, ranges: Ranges, length: int, device: torch.device) -> Rows:
        """The rows of a range per sequence, on a canvas of ``length`` columns. Nothing is read from the device."""
        index = [b * length + column for b, (first, end) in enumerate(ranges) for column in range(first, end)]
        counts = [end - first for first, end in ranges]
        return cls(torch.tensor(index, dtype=torch.long, device=device), counts, (len(counts), length))

    @classmethod
    def union(cls, parts: list[Rows], of: Rows) -> Rows:
        """Disjoint ``parts`` of the rows ``of`` as one, without reading counts from the device."""
        if len(parts) == 1:
            return parts[0]
        counts = [sum(part.counts[b] for part in parts) for b in range(of.shape[0])]
        index = torch.cat([of.index[:0], *(part.index for part in parts)])
        return cls(index.sort().values, counts, of.shape)

    def __len__(self) -> int:
        return self.index.shape[0]

    @property
    def mask(self) -> Tensor:
        """BoolTensor ``[B, T]``."""
        mask = torch.zeros(self.shape[0] * self.shape[1], dtype=torch.bool, device=self.index.device)
        mask[self.index] = True
        return mask.view(self.shape)

    def positions(self) -> list[list[int]]:
        """Canvas positions of each sequence's rows, for traces."""
        columns = (self.index % self.shape[1]).tolist()
        result, start = [], 0
        for count in self.counts:
            result.append(columns[start : start + count])
            start += count
        return result

    @cached_property
    def _slots(self) -> Tensor:
        """LongTensor ``[N]``: index of each row in the padded form ``[B * W]``."""
        device = self.index.device
        lengths = torch.tensor(self.counts, device=device)
        starts = lengths.cumsum(0) - lengths
        offset = torch.arange(len(self.counts), device=device) * self.width - starts
        return torch.arange(len(self), device=device) + offset.repeat_interleave(lengths, output_size=len(self))

    def pad(self, packed: Tensor) -> Tensor:
        """``[N, ...]`` to ``[B, W, ...]``, the rows of each sequence first, then zeros."""
        batch = self.shape[0]
        if self.uniform:
            return packed.view(batch, self.width, *packed.shape[1:])
        padded = packed.new_zeros(batch * self.width, *packed.shape[1:])
        return padded.index_copy_(0, self._slots, packed).view(batch, self.width, *packed.shape[1:])

    def unpad(self, padded: Tensor) -> Tensor:
        """``[B, W, ...]`` to ``[N, ...]``; the inverse of `pad`."""
        flat = padded.reshape(self.shape[0] * self.width, *padded.shape[2:])
        return flat if self.uniform else flat.index_select(0, self._slots)

    def scatter(self, packed: Tensor) -> Tensor:
        """``[N, ...]`` to canvas layout ``[B, T, ...]``, zeros at all other positions."""
        batch, length = self.shape
        if self.complete:
            return packed.view(batch, length, *packed.shape[1:])
        canvas = packed.new_zeros(batch * length, *packed.shape[1:])
        return canvas.index_copy_(0, self.index, packed).view(batch, length, *packed.shape[1:])

    def write(self, canvas: Tensor, packed: Tensor) -> None:
        """Write ``packed`` ``[N, ...]`` into these rows of ``canvas`` ``[B, T, ...]`` (contiguous) in place."""
        canvas.view(self.shape[0] * self.shape[1], *canvas.shape[2:]).index_copy_(0, self.index, packed)

    def read(self, canvas: Tensor) -> Tensor:
        """The values of ``canvas`` ``[B, T, ...]`` (contiguous) at these rows, ``[N, ...]``, a copy."""
        return canvas.view(self.shape[0] * self.shape[1], *canvas.shape[2:]).index_select(0, self.index)

    def locate(self, part: Tensor) -> Tensor:
        """Packed indices, LongTensor ``[M]``, of the flat positions ``part`` ``[M]``, all among these rows."""
        return part if self.complete else torch.searchsorted(self.index, part)
