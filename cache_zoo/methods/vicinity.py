"""dInfer's vicinity refresh: the block and its neighbours run, the rest is frozen until the next block."""

from __future__ import annotations

from typing import Any, ClassVar

from cache_zoo.base import KVCache
from cache_zoo.errors import require
from cache_zoo.rows import Ranges
from cache_zoo.state import Step


class VicinityCache(KVCache):
    """Freeze keys and values of everything far from the current block (vicinity KV-cache refresh of dInfer, arXiv
    2510.08666).

    The whole canvas runs in the first ``warmup_steps`` forwards of a generation, in the one that follows them, and in
    the first forward of every block but the first. In between run the block, ``prefix_look`` positions before it and
    ``after_look`` positions behind it. As released, a warm-up that ends within a later block is followed by a second
    forward of the whole canvas, after one of the window.

    Deviates from the released code: a forward of the whole canvas is not followed by one of the window unless masks
    of the block are left; with shifted models (Dream), which the released code does not run, the row before the block
    always runs.

    Args:
        prefix_look: positions before the block that run with it.
        after_look: positions behind the block that run with it.
        warmup_steps: forwards of the whole canvas at the beginning.
    """

    paper = "dInfer, arXiv 2510.08666"
    exact_with: ClassVar[dict[str, Any] | None] = {"prefix_look": 1_000_000, "after_look": 1_000_000}

    def __init__(self, prefix_look: int = 16, after_look: int = 16, warmup_steps: int = 4) -> None:
        for name, value in (("prefix_look", prefix_look), ("after_look", after_look), ("warmup_steps", warmup_steps)):
            require(value >= 0, f"cache parameter '{name}' must not be negative, not {value}; 0 turns it off")
        self.prefix_look, self.after_look, self.warmup_steps = prefix_look, after_look, warmup_steps

    def rows(self, step: Step) -> Ranges | None:
        whole = [self._whole(step.index, *block) for block in zip(step.block_index, step.block_step, strict=True)]
        if all(whole):
            return None
        length, before = step.canvas.shape[1], max(self.prefix_look, step.canvas.shift)
        return [
            (0, length) if everything else (start - before, end + self.after_look)
            for (start, end), everything in zip(step.bounds, whole, strict=True)
        ]

    def _whole(self, forward: int, block: int, forward_of_block: int) -> bool:
        """Whether everything runs in a forward of the generation that is the given one of its block, all from 0."""
        if block == 0 or forward <= self.warmup_steps:
            return forward <= self.warmup_steps
        # The released code first looks for a new block in the second forward after the warm-up's end.
        return forward_of_block == 0 or (forward == self.warmup_steps + 2 and forward_of_block > 1)
