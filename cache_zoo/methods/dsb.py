"""DSB-Cache: a window that follows the sliding block, and a refresh after every block length of tokens."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from cache_zoo.base import KVCache
from cache_zoo.errors import require
from cache_zoo.state import Canvas, Outcome, Step


class DSBCache(KVCache):
    """Recompute the block and a window before it, and everything from time to time (DSB-Cache, arXiv 2602.05992).

    The whole canvas runs once at least ``block_length`` tokens were committed since the last such forward, its own
    ones included. In between run the block, the ``prefix_window`` positions before it - or, if it has just moved by
    more, all that it moved over - and the ``suffix_window`` positions behind it. Made for the sliding blocks of
    ``strategy=sliding``; with fixed blocks it is a dual cache with a window.

    Deviates from the released code: masks in the suffix window are never committed before the block reaches them; with
    shifted models (Dream) the row before the block always runs, and a forward of the whole canvas commits like any
    other instead of only the block's first token.

    Args:
        prefix_window: positions before the block that run with it.
        suffix_window: positions behind the block that run with it.
    """

    paper = "DSB, arXiv 2602.05992"
    exact_with: ClassVar[dict[str, Any] | None] = {"prefix_window": 1_000_000, "suffix_window": 1_000_000}

    def __init__(self, prefix_window: int = 24, suffix_window: int = 0) -> None:
        for name, value in (("prefix_window", prefix_window), ("suffix_window", suffix_window)):
            require(value >= 0, f"cache parameter '{name}' must not be negative, not {value}; 0 turns it off")
        self.prefix_window, self.suffix_window = prefix_window, suffix_window

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        # LongTensors [B, 1]: tokens committed since the last refresh, and where the block of the last forward began.
        self._committed = torch.full((canvas.shape[0], 1), canvas.block_length, device=canvas.device)
        self._start = torch.full_like(self._committed, canvas.prompt_length)

    def rows(self, step: Step) -> Tensor | None:
        canvas = step.canvas
        advance = step.block_start - self._start
        first = step.block_start - advance.clamp(min=max(self.prefix_window, canvas.shift))
        window = (canvas.columns >= first) & (canvas.columns < step.block_end + self.suffix_window)
        return window | self._due(canvas)

    def end_step(self, step: Step, outcome: Outcome) -> None:
        before = self._committed.masked_fill(self._due(step.canvas), 0)
        self._committed = before + outcome.committed.sum(dim=1, keepdim=True)
        self._start = step.block_start

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        self._committed, self._start = self._committed[kept], self._start[kept]

    def _due(self, canvas: Canvas) -> Tensor:
        """BoolTensor ``[B, 1]``: whether everything runs in this forward."""
        return self._committed >= canvas.block_length
