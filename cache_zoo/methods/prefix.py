"""Fast-dLLM's prefix cache."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from cache_zoo.base import KVCache
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

    def rows(self, step: Step) -> Tensor | None:
        fresh = [forwards == 0 for forwards in step.block_step]
        if all(fresh):
            return None
        canvas = step.canvas
        end = step.block_end if self.use_dual else canvas.shape[1]
        rows = canvas.columns + canvas.window_shift
        window = (rows >= step.block_start) & (rows < end)
        return window | torch.tensor(fresh, device=canvas.device).unsqueeze(1)
