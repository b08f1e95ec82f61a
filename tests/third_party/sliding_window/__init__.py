"""A cache without a paper: a window that follows the first masked position."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from cache_zoo import KVCache, Step


class WindowCache(KVCache):
    """Recompute a window around the first masked position, and everything every ``every`` steps.

    Neighbours matter most to a masked token, so the rows from ``width`` positions before the first one that may be
    committed up to ``width`` behind it run in every step; the others wait for the next refresh.

    Args:
        every: steps between refreshes of the whole canvas.
        width: positions run on either side, at least 1.
    """

    paper = "Sliding window cache, https://example.org/sliding-window"
    exact_with: ClassVar[dict[str, Any] | None] = {"every": 1}

    def __init__(self, every: int = 8, width: int = 16) -> None:
        if every < 1 or width < 1:
            raise ValueError(f"every ({every}) and width ({width}) must be at least 1")
        self.every, self.width = every, width

    def rows(self, step: Step) -> Tensor | None:
        if step.index % self.every == 0:
            return None
        first = step.committable.int().argmax(dim=1, keepdim=True)
        distance = step.canvas.columns + step.canvas.shift - first  # row j - shift predicts position j
        return (distance >= -self.width) & (distance < self.width)
