"""FlashDLM's FreeCache: what a block has left behind is never recomputed."""

from __future__ import annotations

from torch import Tensor

from cache_zoo.base import KVCache
from cache_zoo.rows import Ranges
from cache_zoo.state import Canvas, Outcome, Step


class FreeCache(KVCache):
    """Freeze the prompt after the first forward and every block after its last one, for good (FreeCache of FlashDLM,
    arXiv 2505.21467).

    Every other forward runs the current block and everything behind it; nothing is ever refreshed. As published, a
    block is frozen by the forward that commits its last tokens, so that these keep the keys and values of [MASK].
    Where a strategy does not know before a forward that it completes the block (``threshold``, ``factor``), and with
    ``freeze_after_write``, the block runs once more, in the first forward of the next one.

    Deviates from the released code: with one forward per block the first of them freezes its block as well; the
    released code writes the rows of later blocks to wrong places there.

    Args:
        freeze_after_write: freeze a token only once a forward has read it.
    """

    paper = "FlashDLM, arXiv 2505.21467"

    def __init__(self, freeze_after_write: bool = False) -> None:
        self.freeze_after_write = freeze_after_write

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        self._frozen = [0] * canvas.shape[0]  # columns before this one are frozen, host integers

    def rows(self, step: Step) -> Ranges | None:
        # a block that moves back thaws what it reaches
        first = [min(frozen, start) for frozen, (start, _) in zip(self._frozen, step.bounds, strict=True)]
        return [(column - step.canvas.shift, step.canvas.shape[1]) for column in first]

    def end_step(self, step: Step, outcome: Outcome) -> None:
        last = None if self.freeze_after_write else step.last_of_block
        self._frozen = [end if last and last[b] else start for b, (start, end) in enumerate(step.bounds)]

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        self._frozen = [self._frozen[b] for b in kept.tolist()]
