"""What a record drew or fixed, given to the replay as it was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cache_zoo import Canvas, Step, Suffix
from cache_zoo.methods.prefix import PrefixCache
from cache_zoo.rows import Ranges
from generation import GenerationOptions, Strategy, View
from generation.strategies.strategy import Board, Plan, Region


class GivenOrder(Strategy):
    """Commits given positions, whatever their confidence.

    Args:
        order: per sequence and forward, generated positions in the order of the record.
    """

    plans_ahead = True

    def __init__(self, options: GenerationOptions, order: list[list[list[int]]]) -> None:
        super().__init__(options)
        self._order = order
        self._forwards = 0

    def plan(self, board: Board) -> Plan:
        planned = torch.zeros_like(board.open, dtype=torch.long)
        for b, groups in enumerate(self._order):
            for rank, position in enumerate(groups[self._forwards] if board.open[b].any() else [], start=1):
                planned[b, position] = rank
        self._forwards += 1
        self._planned = planned > 0
        return replace(super().plan(board), planned=planned)

    def commit(self, view: View) -> Tensor:
        return view.eligible & self._planned.to(view.eligible.device)

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        self._order = [self._order[b] for b in kept.tolist()]


class GivenBlocks(Strategy):
    """Decodes given blocks by threshold, of any lengths.

    Args:
        bounds: first and last + 1 generated position of each block.
    """

    def __init__(self, options: GenerationOptions, bounds: Sequence[tuple[int, int]]) -> None:
        super().__init__(options)
        self._blocks = [Region(number, start, end) for number, (start, end) in enumerate(bounds)]

    def plan(self, board: Board) -> Plan:
        def region(is_open: Tensor) -> Region | None:
            return next((r for r in self._blocks if is_open[max(0, r.start) : r.end].any()), None)

        return Plan([region(is_open) for is_open in board.open])

    def commit(self, view: View) -> Tensor:
        assert self.options.threshold is not None
        best = view.confidence.masked_fill(~view.eligible, -torch.inf).argmax(dim=1, keepdim=True)
        chosen = view.confidence >= self.options.threshold
        return view.eligible & chosen.scatter(1, best, True)


class RefreshedPrefix(PrefixCache):
    """dInfer's ``cache_update_freq``: all rows run every few iterations too, for one sequence.

    An iteration is a forward, or a forward of all rows and the one that follows it.

    Args:
        every: iterations from one to the next, counted over the generation.
    """

    def __init__(self, every: int, use_dual: bool) -> None:
        super().__init__(use_dual)
        self._every = every

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        self._iteration, self._half = 0, False

    def rows(self, step: Step) -> Ranges | None:
        begins = step.block_step[0] == 0
        if self._half:
            self._half, self._iteration = False, self._iteration + 1
            if not begins:
                return super().rows(step)
        if begins or self._iteration % self._every == 0:
            self._half = True
            return None
        self._iteration += 1
        return super().rows(step)


class GivenSuffix(Suffix):
    """Shows given positions behind the block.

    Args:
        positions: per block, columns of the canvas, the same for every sequence.
    """

    def __init__(self, positions: list[list[int]]) -> None:
        self._positions = positions

    def visible(self, step: Step) -> Tensor:
        visible = step.canvas.columns < step.block_end
        for b, block in enumerate(step.block_index):
            visible[b, self._positions[block]] = True
        return visible
