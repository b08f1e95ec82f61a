"""SlowFast sampling: a few exploring forwards find how far the text is certain, fast ones finish that part alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean, pstdev, variance

import torch
from torch import Tensor

from cache_zoo.errors import require, require_choice
from generation.options import GenerationOptions
from generation.strategies.strategy import (
    RANKING,
    Board,
    Plan,
    Region,
    Strategy,
    View,
    first_open_block,
    refuse_options,
)


@dataclass
class _Cycle:
    """A part of a block, columns counted from the start of the block: ``end`` is None while it is explored."""

    block: int
    number: int
    start: int = 0
    end: int | None = None
    forwards: int = 0
    estimates: list[int] = field(default_factory=list)
    stable: int | None = None


class SlowFast(Strategy):
    """Explore, then decode a cycle of the block (SlowFast sampling, arXiv 2506.10848, section 3).

    A cycle begins where the last one ended. In each of ``k_exploration`` slow forwards the farthest mask of the block
    with a confidence of ``cycle_confidence`` is an estimate of its end, and the rest of the block is decoded. If the
    last ``window`` estimates deviate by less than ``std``, the end is the last one; otherwise, at last, their mean.
    Fast forwards complete the cycle: the first runs the whole canvas, the others what stands before its end. A forward
    commits what has the confidence ``threshold``, here 0.9 unless given, if that are enough tokens, and else the best.

    ``rule=dream`` is that of the released code for Dream: ``std`` bounds the variance, estimates that are missing count
    as 0 and the mean is rounded to the nearest number. Its values there: ``block_length=null``,
    ``cycle_confidence=0.1``, ``slow_threshold=0.8``.

    Deviates from the released code for LLaDA, which explores on when nothing of the block is left.

    Args:
        options: of the generation.
        k_exploration: slow forwards of a cycle, at least 1.
        cycle_confidence: confidence from which on a mask may end the cycle, in [0, 1].
        window: estimates that are compared, at least 1.
        std: deviation below which they agree.
        slow_threshold: the threshold in slow forwards; None: the same.
        slow_least, fast_least: tokens above the threshold from which on a slow or fast forward commits all of them.
        rule: how the end of a cycle follows from the estimates, ``llada`` or ``dream``.
    """

    paper = "SlowFast sampling, arXiv 2506.10848"
    makes_blocks = True
    resizes = True

    def __init__(
        self,
        options: GenerationOptions,
        k_exploration: int = 6,
        cycle_confidence: float = 0.3,
        window: int = 2,
        std: float = 1.0,
        slow_threshold: float | None = None,
        slow_least: int = 2,
        fast_least: int = 2,
        rule: str = "llada",
    ) -> None:
        counts = {"k_exploration": k_exploration, "window": window, "slow_least": slow_least, "fast_least": fast_least}
        for name, value in counts.items():
            require(value >= 1, f"strategy parameter '{name}' must be at least 1, not {value}")
        for name, share in (("cycle_confidence", cycle_confidence), ("slow_threshold", slow_threshold)):
            is_share = share is None or 0 <= share <= 1
            require(is_share, f"strategy parameter '{name}' must be between 0 and 1, not {share}")
        require(std >= 0, f"strategy parameter 'std' must not be negative, not {std}")
        require_choice("value of strategy parameter 'rule'", rule, ("llada", "dream"))
        refuse_options(options, "which commits by thresholds of its own", *RANKING, "alg")
        super().__init__(options)
        self.counted = False
        self.k_exploration, self.cycle_confidence, self.window, self.std = k_exploration, cycle_confidence, window, std
        self.rule, self.slow_least, self.fast_least = rule, slow_least, fast_least
        self._fast = 0.9 if options.threshold is None else options.threshold
        self._slow = self._fast if slow_threshold is None else slow_threshold

    def start(self, board: Board) -> None:
        self._cycles = [_Cycle(-1, -1) for _ in board.seeds]
        self._farthest: Tensor | None = None  # column of the estimate, of each sequence, [B]

    def plan(self, board: Board) -> Plan:
        blocks, length = first_open_block(board.open, self.options.block), self.options.gen_length
        farthest = [None] * len(blocks) if self._farthest is None else self._farthest.tolist()
        regions: list[Region | None] = []
        lengths = []
        for b, (block, column) in enumerate(zip(blocks, farthest, strict=True)):
            regions.append(None)
            lengths.append(length)
            if block is not None:
                regions[b] = region = self._region(b, block, column, board.open[b])
                cycle = self._cycles[b]
                if cycle.end is not None and cycle.forwards > 0:
                    lengths[b] = region.end
                cycle.forwards += 1
        return Plan(regions, lengths=None if min(lengths) == length else lengths)

    def commit(self, view: View) -> Tensor:
        device, confidence = view.confidence.device, view.confidence.masked_fill(~view.eligible, -torch.inf)
        slow = torch.tensor([cycle.end is None for cycle in self._cycles], device=device).unsqueeze(1)
        self._farthest = None
        if any(cycle.end is None and cycle.stable is None for cycle in self._cycles):
            columns = torch.arange(confidence.shape[1], device=device)
            self._farthest = torch.where(confidence >= self.cycle_confidence, columns, -1).amax(dim=1)
        passed = (confidence >= torch.where(slow, self._slow, self._fast)).sum(dim=1, keepdim=True)
        number = torch.where(passed >= torch.where(slow, self.slow_least, self.fast_least), passed, 1)
        order = confidence.argsort(dim=1, descending=True, stable=True)
        return view.eligible & (order.argsort(dim=1) < number)

    def drop_finished(self, kept: Tensor) -> None:
        self._cycles = [self._cycles[b] for b in kept.tolist()]

    def _region(self, b: int, block: Region, farthest: int | None, open_: Tensor) -> Region:
        """What sequence ``b`` decodes next in its ``block``; ``farthest`` is the estimate of the last forward."""
        cycle = self._cycles[b]
        if cycle.block != block.block:
            cycle = self._cycles[b] = _Cycle(block.block, cycle.number + 1)
        elif cycle.end is None:
            self._estimate(cycle, farthest, block)
            if cycle.forwards == self.k_exploration:
                cycle.end, cycle.forwards, cycle.number = self._end(cycle), 0, cycle.number + 1
        if cycle.end is not None and not bool(open_[block.start + cycle.start : block.start + cycle.end].any()):
            cycle = self._cycles[b] = _Cycle(block.block, cycle.number + 1, cycle.end)
        end = block.end if cycle.end is None else block.start + cycle.end
        return Region(cycle.number, block.start + cycle.start, end)

    def _estimate(self, cycle: _Cycle, farthest: int | None, block: Region) -> None:
        """Take over the estimate of the last forward, unless the end is stable already."""
        if farthest is None or cycle.stable is not None:
            return
        estimate = cycle.start + 1 if farthest < 0 else farthest - block.start + 1
        cycle.estimates.append(min(estimate, block.end - block.start))
        last = self._compared(cycle)
        if len(last) < self.window:
            return
        is_dream = self.rule == "dream"
        spread = pstdev(last) if not is_dream else variance(last) if len(last) > 1 else 0
        if spread < self.std or (is_dream and spread == self.std):
            cycle.stable = cycle.estimates[-1]

    def _end(self, cycle: _Cycle) -> int:
        if cycle.stable is not None:
            return cycle.stable
        mean = fmean(self._compared(cycle))
        return max(1, round(mean)) if self.rule == "dream" else int(mean)

    def _compared(self, cycle: _Cycle) -> list[int]:
        """The last estimates."""
        missing = self.window - len(cycle.estimates) if self.rule == "dream" else 0
        return [0] * missing + cycle.estimates[-self.window :]
