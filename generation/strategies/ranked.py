"""What strategies share that commit the best positions of a region: schedules, scores and rules."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cache_zoo.errors import require
from cache_zoo.methods.certainty import certainty_density
from generation.frequencies import calibrated, frequencies
from generation.options import UNRANKED, GenerationOptions
from generation.sampling import gumbel, uniform_of
from generation.selection import block_forwards, commit_best, damped_threshold, dream_times, quota, ranks
from generation.strategies.strategy import Board, Edit, Plan, Region, Strategy, View


def moved(board: Board, b: int, start: int, end: int) -> Region:
    """The region ``start`` to ``end`` of sequence ``b``, another block than before if its bounds differ."""
    if board.regions is None:
        return Region(0, start, end)
    block, *bounds = board.regions[b]
    return Region(block + (bounds != [start, end]), start, end)


UNRANKED_ALGS = tuple(f"alg={name}" for name in UNRANKED)
"""What a strategy refuses that needs confidences (`refuse_options`)."""


class RankedStrategy(Strategy):
    """Commit the best positions of a region: a scheduled number, and what a threshold or another rule adds.

    A subclass with regions of its own makes a plan of them and passes it to `ranked`.

    Args:
        options: of the generation.
        blocks: the regions are the blocks, and each has its share of ``steps``; False: ``steps`` is one schedule for
            the whole generation.
        counted: whether the options alone say how many tokens a forward commits; False: the subclass commits others,
            and at least one.
    """

    def __init__(self, options: GenerationOptions, *, blocks: bool = True, counted: bool = True) -> None:
        super().__init__(options)
        self.counted &= counted
        require(
            blocks or options.first_forward == "decode",
            f"first_forward={options.first_forward} needs blocks, and strategy '{options.strategy}' has none; "
            "give first_forward=decode",
        )
        self._blocks = blocks
        self.plans_ahead = options.alg in UNRANKED
        self.needs_logits = self.needs_logits or options.gamma is not None  # for entropies
        self.fixed: list[int] = []  # columns that hold a token from the beginning
        self._schedule = options if blocks else replace(options, block_length=None)
        if options.schedule != "even" and self.counted:
            self.patience = block_forwards(self._schedule)  # only its last forward is sure to commit

    def start(self, board: Board) -> Edit | None:
        batch, length = board.masked.shape
        self._forwards, self._least = [0] * batch, [0] * batch
        self._order = None
        self._frequency = (
            None if self.options.debias is None else frequencies(self.options.debias, self.options.debias_sha256)
        )
        if self.options.alg == "ar":
            self._order = torch.arange(length, 0, -1).float().expand(batch, length)
        elif self.options.alg in UNRANKED:
            self._order = uniform_of(board.seeds, length, "order")
        return None

    def plan(self, board: Board) -> Plan:
        return self.ranked(board, super().plan(board))

    def ranked(self, board: Board, plan: Plan) -> Plan:
        """``plan`` with what is known before the forward: how much a region commits, and where a random order does."""
        regions = [region or Region(0, 0, 0) for region in plan.regions]  # a finished sequence has nothing to commit
        columns = torch.arange(board.open.shape[1])
        start, end = torch.tensor([[region.start, region.end] for region in regions]).T.unsqueeze(2)
        inside = board.open & (columns >= start) & (columns < end)
        masks = (inside if self._blocks else board.open).sum(dim=1).tolist()
        later = (board.open & (columns >= end)).sum(dim=1).tolist()
        candidates = inside.clone() if plan.candidates is None else inside & plan.candidates
        for b, region in enumerate(regions):
            spent = self._spent(board, region, b)
            if self.options.first_forward == "first_token" and spent == 0:
                self._least[b], plan = 1, replace(plan, candidates=candidates)
                candidates[b] &= candidates[b].cumsum(dim=0) == 1
            elif self.options.alg == "origin":
                self._least[b] = int((inside[b] & self._due(b, spent)).sum())
            else:
                block = region.block if self._blocks else 0
                given = sum(not self._blocks or region.start <= column < region.end for column in self.fixed)
                number = quota(self._schedule, spent, masks[b], block=block, later=later[b], given=given)
                self._least[b] = number if self.counted else max(number, 1)
        least = torch.tensor(self._least)
        if self._order is not None:
            score = self._prior(self._order, board.masked)
            plan = replace(plan, planned=ranks(score, commit_best(score, candidates, least, self.options)))
        last = (least >= inside.sum(dim=1)).tolist() if self.counted else None
        return replace(plan, last=last)

    def commit(self, view: View) -> Tensor:
        options, device = self.options, view.confidence.device
        score = view.confidence if self._order is None else self._order.to(device)
        if self._frequency is not None:
            self._frequency = self._frequency.to(device)
            score = calibrated(score, view.tokens, self._frequency, options.debias_clip)
        score = self._prior(score, view.masked)
        if options.alg_temp:
            numbers = zip(view.seeds, self._forwards, strict=True)
            drawn = [uniform_of([seed], score.shape[1], f"alg_temp {forwards}") for seed, forwards in numbers]
            score = score / options.alg_temp + gumbel(torch.cat(drawn)).to(device)
        self._forwards = [forwards + 1 for forwards in self._forwards]
        threshold = None
        if options.threshold is not None and options.alpha:
            starts = [region.start for region in view.regions]
            threshold = damped_threshold(options.threshold, options.alpha, view.masked, view.ran, starts)
        entropy = view.entropy() if options.gamma is not None else None
        return commit_best(score, view.eligible, torch.tensor(self._least, device=device), options, threshold, entropy)

    def drop_finished(self, kept: Tensor) -> None:
        self._forwards, self._least = ([of[b] for b in kept.tolist()] for of in (self._forwards, self._least))
        if self._order is not None:
            self._order = self._order[kept.cpu()]

    def _spent(self, board: Board, region: Region, b: int) -> int:
        """Forwards that sequence ``b`` has spent under the schedule of ``region``."""
        if not self._blocks:
            return self._forwards[b]
        same = board.regions is not None and board.regions[b].block == region.block
        return board.block_step[b] if same else 0

    def _due(self, b: int, spent: int) -> Tensor:
        """Positions of sequence ``b`` whose time has come in Dream's ``alg=origin``, BoolTensor ``[G]``."""
        assert self._order is not None
        forwards = block_forwards(self._schedule)
        time = dream_times(forwards, self._schedule.eps)[spent + 1] if spent < forwards - 1 else 0
        return self._order[b] >= time

    def _prior(self, score: Tensor, masked: Tensor) -> Tensor:
        """``score`` ``[B, G]`` times the certainty prior, if there is one."""
        return score * certainty_density(~masked, self.options.sigma) if self.options.sigma else score
