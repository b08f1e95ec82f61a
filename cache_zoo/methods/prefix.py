"""Fast-dLLM's prefix cache."""

from __future__ import annotations

from typing import Any, ClassVar

from cache_zoo.base import KVCache
from cache_zoo.rows import Ranges
from cache_zoo.state import Step


class PrefixCache(KVCache):
    """Freeze keys and values of everything before the current block (Fast-dLLM, arXiv 2505.22618, section 3.2).

    The first forward of each block recomputes the whole canvas and commits tokens. Until the block is complete, only
    the block and everything behind it run.

    Deviates from the released script: a block that its first forward completes takes no second forward; with shifted
    models (Dream) the window of rows moves one to the left, unless ``first_forward=first_token`` has the first forward
    commit the block's first token, as the script does.

    Args:
        use_dual: freeze everything behind the block as well; the same as `cache_zoo.methods.dual.DualCache`.
    """

    paper = "Fast-dLLM, arXiv 2505.22618"
    needs_blocks = True
    exact_with: ClassVar[dict[str, Any] | None] = {}
    also_called: ClassVar[dict[str, dict[str, Any]]] = {"dual": {"use_dual": True}}

    def __init__(self, use_dual: bool = False) -> None:
        self.use_dual = use_dual

    def rows(self, step: Step) -> Ranges | None:
        if not any(step.block_step):
            return None
        length, shift = step.canvas.shape[1], step.canvas.window_shift
        return [
            (start - shift, (end if self.use_dual else length) - shift) if forwards else (0, length)
            for (start, end), forwards in zip(step.bounds, step.block_step, strict=True)
        ]
