"""Elastic-Cache's sliding window: the first masks in order."""

from __future__ import annotations

from cache_zoo.errors import require
from generation.options import GenerationOptions
from generation.strategies.ranked import RankedStrategy, moved
from generation.strategies.strategy import Board, Plan, Region


class Window(RankedStrategy):
    """Only the first masks in order may be committed, wherever they are (Elastic-Cache, arXiv 2510.14973).

    ``block_length`` has no effect, and ``steps`` is one schedule for the whole generation. Which of the window's tokens
    are committed, the options say as for any strategy. Caches see another block when the window's bounds move.

    Args:
        options: of the generation.
        window: masks that may be committed, at least 1.
    """

    paper = "Elastic-Cache, arXiv 2510.14973"

    def __init__(self, options: GenerationOptions, window: int = 16) -> None:
        require(window >= 1, f"strategy parameter 'window' must be at least 1, not {window}")
        super().__init__(options, blocks=False)
        self.window = window

    def plan(self, board: Board) -> Plan:
        candidates = board.open & (board.open.cumsum(dim=1) <= self.window)
        regions: list[Region | None] = []
        for b, places in enumerate(candidates):
            found = places.nonzero().flatten().tolist()
            regions.append(moved(board, b, found[0], found[-1] + 1) if found else None)
        return self.ranked(board, Plan(regions, candidates))
