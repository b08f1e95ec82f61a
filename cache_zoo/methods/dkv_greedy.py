"""dKV-Cache-Greedy: only tokens about to be committed, those just committed, and a few neighbours run."""

from __future__ import annotations

from itertools import islice
from typing import Any, ClassVar

import torch
from torch import Tensor

from cache_zoo.base import KVCache
from cache_zoo.errors import require
from cache_zoo.state import Canvas, Outcome, Step


class DKVGreedyCache(KVCache):
    """Run what this forward commits, what the last one committed, and masked neighbours of the former
    (dKV-Cache-Greedy, arXiv 2505.15781).

    Forwards of a block at multiples of ``cache_steps`` run everything. The method needs an order of decoding that is
    known beforehand, such as ``alg=random``. With shifted models (Dream), for which it was not published, the rows
    that predict those tokens run.

    Args:
        cache_steps: forwards of a block between refreshes; 1 recomputes everything always.
        window: masked positions nearest to each token about to be committed that run with it, left and right in turn,
            also outside the block.
    """

    paper = "dKV-Cache, arXiv 2505.15781"
    needs_planned = True
    exact_with: ClassVar[dict[str, Any] | None] = {"cache_steps": 1}

    def __init__(self, cache_steps: int = 2, window: int = 4) -> None:
        require(cache_steps >= 1, f"cache parameter 'cache_steps' must be at least 1 (1: no cache), not {cache_steps}")
        require(window >= 0, f"cache parameter 'window' must not be negative, not {window}; 0 turns it off")
        self.cache_steps, self.window = cache_steps, window

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        self._last = torch.zeros_like(canvas.valid)

    def rows(self, step: Step) -> Tensor | None:
        assert step.planned is not None, "the decoder refuses strategies that do not plan (needs_planned)"
        wanted = self._with_neighbours(step.planned, step.masked)
        due = [forwards % self.cache_steps == 0 for forwards in step.block_step]
        rows = wanted.roll(-step.canvas.shift, dims=1) | self._last
        return rows | torch.tensor(due, device=rows.device).unsqueeze(1)

    def end_step(self, step: Step, outcome: Outcome) -> None:
        self._last = outcome.changed

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        self._last = self._last[kept]

    def _with_neighbours(self, planned: Tensor, masked: Tensor) -> Tensor:
        """The ``planned`` positions and the masked ones around each, BoolTensor ``[B, T]``.

        In the order of ``planned``; a neighbour of one counts for no other.
        """
        length = planned.shape[1]
        wanted, free = (planned > 0).tolist(), (masked & (planned == 0)).tolist()
        for b, ranks in enumerate(planned.tolist()):
            for position in sorted((at for at in range(length) if ranks[at]), key=ranks.__getitem__):
                around = (position + side * distance for distance in range(1, length) for side in (-1, 1))
                near = (at for at in around if 0 <= at < length and free[b][at])
                for at in list(islice(near, self.window)):
                    free[b][at], wanted[b][at] = False, True
        return torch.tensor(wanted, device=planned.device)
