"""DSB's sliding block: from the first mask on, longer by one with every token written."""

from __future__ import annotations

from cache_zoo.errors import require, require_type
from generation.options import GenerationOptions
from generation.strategies.ranked import RankedStrategy, moved
from generation.strategies.strategy import Board, Plan, Region


class Sliding(RankedStrategy):
    """A block that moves after every forward (DSB, arXiv 2602.05992).

    With ``u`` tokens written, it begins at the first mask before its last end, or there if none is left, and ends at
    ``block_length + u``, wherever the tokens are; so each written token pushes its end by one. ``steps`` is one
    schedule for the whole generation. Caches see another block whenever the bounds move.

    Deviates from the released code, whose cached loop stays at the first number of a schedule.

    Args:
        options: of the generation; ``block_length`` is that of the first block.
        max_block_length: most columns of the block, at least 1 (DSB const.); None: any number (DSB greedy).
    """

    paper = "DSB, arXiv 2602.05992"

    def __init__(self, options: GenerationOptions, max_block_length: int | None = None) -> None:
        require_type("strategy parameter 'max_block_length'", max_block_length, int, optional=True)
        require(
            max_block_length is None or max_block_length >= 1,
            f"strategy parameter 'max_block_length' must be at least 1, not {max_block_length}; null sets no limit",
        )
        super().__init__(options, blocks=False)
        self.max_block_length = max_block_length

    def plan(self, board: Board) -> Plan:
        regions = [self._region(board, b) if some else None for b, some in enumerate(board.open.any(dim=1).tolist())]
        return self.ranked(board, Plan(regions))

    def _region(self, board: Board, b: int) -> Region:
        start = 0 if board.regions is None else board.regions[b].end
        before = board.open[b, :start].nonzero().flatten().tolist()
        start = before[0] if before else start
        written = int((~board.masked[b]).sum())
        end = min(self.options.block + written, self.options.gen_length)
        return moved(board, b, start, end if self.max_block_length is None else min(end, start + self.max_block_length))
