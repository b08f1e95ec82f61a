"""AdaBlock-dLLM: blocks that end at a delimiter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from cache_zoo.errors import require
from generation.options import GenerationOptions
from generation.strategies.ranked import RankedStrategy
from generation.strategies.strategy import Board, Plan, Region, View

_NEWLINE = [198]  # of the tokenizers of LLaDA and Dream


class AdaBlock(RankedStrategy):
    """Blocks that end at a delimiter which their first forward predicts (AdaBlock-dLLM, arXiv 2509.26432, algorithm 1).

    Of the positions in a window behind the last block, the most probable one that predicts a delimiter ends the block,
    if its probability reaches a threshold; else the block has ``block_length`` positions. The forward that decides this
    already commits in the block. As here all positions of the block; the released code on Dream with a cache commits
    the first one alone, which is ``first_forward=first_token``.

    A cache that does not run every position may leave the block nothing to commit; then it reaches to the first
    position that can be.

    Args:
        options: of the generation; ``block_length`` is that of blocks without a delimiter, and need not divide
            ``gen_length``.
        delimiters: token ids that end a block; by default the newline of LLaDA and Dream.
        delimiter_threshold: least probability of a delimiter that ends a block; above 1 none does.
        window_share: share of ``gen_length`` in which a delimiter is looked for, above 0 and at most 1.
    """

    paper = "AdaBlock-dLLM, arXiv 2509.26432"
    equal_blocks = False

    def __init__(
        self,
        options: GenerationOptions,
        delimiters: Sequence[int] = _NEWLINE,
        delimiter_threshold: float = 0.3,
        window_share: float = 0.25,
    ) -> None:
        ids = isinstance(delimiters, Sequence) and all(isinstance(token, int) for token in delimiters)
        require(ids, f"strategy parameter 'delimiters' must be a list of token ids, not {delimiters!r}")
        threshold = delimiter_threshold
        require(threshold >= 0, f"strategy parameter 'delimiter_threshold' must not be negative, not {threshold}")
        share = window_share
        require(0 < share <= 1, f"strategy parameter 'window_share' must be above 0 and at most 1, not {share}")
        require(
            options.steps is None,
            f"steps={options.steps} shares tokens out to blocks of one length; strategy '{options.strategy}' chooses "
            "its blocks: give threshold or num_transfer_tokens",
        )
        require(
            options.alg == "maskgit_plus",
            f"strategy '{options.strategy}' compares probabilities of tokens; alg={options.alg} has others",
        )
        super().__init__(options)
        self.delimiters, self.delimiter_threshold = list(delimiters), threshold
        self._window = int(share * options.gen_length)

    def plan(self, board: Board) -> Plan:
        regions = [self._region(board, b) if some else None for b, some in enumerate(board.open.any(dim=1).tolist())]
        plan = Plan(regions)
        if self.options.first_forward == "first_token":  # which needs no other logits of the block
            columns = torch.arange(board.open.shape[1])
            reach = torch.tensor([region.end if region else 0 for region in regions])[:, None]
            plan = replace(plan, logits=board.open & (columns < reach))
        return replace(self.ranked(board, plan), last=None)  # the block may be shorter than its region

    def _region(self, board: Board, b: int) -> Region:
        """The block of sequence ``b`` or, before its first forward, all that it may become."""
        before = Region(-1, 0, 0) if board.regions is None else board.regions[b]
        if board.open[b, before.start : before.end].any():
            return before
        start = int(board.open[b].int().argmax())
        width = max(self._window, self.options.block)
        return Region(before.block + 1, start, min(start + width, self.options.gen_length))

    def settle(self, view: View) -> list[Region] | None:
        first = [step == 0 for step in view.block_step]
        if not any(first):
            return None
        device, columns = view.tokens.device, torch.arange(view.tokens.shape[1], device=view.tokens.device)
        start, end = torch.tensor([region[1:] for region in view.regions], device=device).T.unsqueeze(2)
        near = (columns >= start) & (columns < end) & (columns < start + self._window)
        found = near & view.live & torch.isin(view.tokens, torch.tensor(self.delimiters, device=device))
        best, place = view.confidence.masked_fill(~found, -torch.inf).max(dim=1, keepdim=True)
        usual = torch.minimum(start + self.options.block, end)
        ends = torch.where(best >= self.delimiter_threshold, place + 1, usual)
        ends = torch.maximum(ends, view.eligible.int().argmax(dim=1, keepdim=True) + 1)
        chosen = zip(view.regions, first, ends.flatten().tolist(), strict=True)
        return [region._replace(end=to) if new else region for region, new, to in chosen]
