"""WINO: drafts many tokens at once, and takes back those that the others speak against."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cache_zoo.errors import require
from generation.options import GenerationOptions
from generation.sampling import probability_of
from generation.strategies.strategy import RANKING, Board, Edit, Plan, Strategy, View, refuse_options

_FIRST_ACCEPTED = 30
"""What the forward before the first of a block counts as accepted."""


class Wino(Strategy):
    """Draft and verify (WINO, Wide-In, Narrow-Out, arXiv 2507.18578, section 4).

    Every forward drafts the masks of the block whose confidence exceeds ``threshold``: at most 70 % of them, bounded by
    5 and 20, and at least the best one. Beside them second rows of the block, in place of the shadow block of the
    released code, predict each position from everything but its own token. A forward that drafts more than one token
    takes back those of earlier forwards in the block whose probability there is below ``threshold_back``: the least
    probable ones, and fewer than the forward before drafted, so that decoding ends.

    ``threshold`` is the option of that name, here 0.6 unless given.

    Deviates from the released code: a forward that can't take anything back runs no second rows, and [MASK] is never
    proposed.

    Args:
        options: of the generation.
        threshold_back: probability below which a token is taken back, in [0, 1]; 0 takes none back.
    """

    paper = "WINO, arXiv 2507.18578"
    rows_beside = 1

    def __init__(self, options: GenerationOptions, threshold_back: float = 0.9) -> None:
        require(
            0 <= threshold_back <= 1,
            f"strategy parameter 'threshold_back' must be between 0 and 1, not {threshold_back}",
        )
        refuse_options(options, "which drafts by threshold alone", *RANKING)
        refuse_options(options, "which weighs the probability of every token", "alg", "confidence_eos_eot_inf")
        require(
            options.eos != "fill",
            "eos=fill writes behind a token that strategy 'wino' may take back; give block or drop, or stop_until_eos",
        )
        super().__init__(options)
        self.counted = False
        self.threshold_back = threshold_back
        self._threshold = 0.6 if options.threshold is None else options.threshold

    @property
    def most_forwards(self) -> int:
        # the masks left, plus what the forward before accepted, become fewer with every forward of a block
        return self.options.gen_length + _FIRST_ACCEPTED * (self.options.gen_length // self.options.block)

    def start(self, board: Board) -> None:
        self._accepted = torch.full((len(board.seeds), 1), _FIRST_ACCEPTED, device=board.ids.device)

    def plan(self, board: Board) -> Plan:
        plan = super().plan(board)
        self._second = None
        if self.threshold_back == 0:
            return plan
        second, any_of_them = torch.zeros_like(board.masked), False
        for b, region in enumerate(plan.regions):
            if region is None:
                continue
            block = slice(region.start, region.end)
            written, left = ~board.masked[b, block], board.open[b, block]
            if bool(written.any()) and int(left.sum()) > 1:  # all of them, because second rows attend to each other
                second[b, block] = any_of_them = True
        if any_of_them:
            self._second = second
        return replace(plan, leave_one_out=self._second)

    def decide(self, view: View) -> Edit:
        new = torch.tensor([step == 0 for step in view.block_step], device=view.ids.device).unsqueeze(1)
        before = self._accepted.masked_fill(new, _FIRST_ACCEPTED)
        drafted = self._drafted(view)
        self._accepted = drafted.sum(dim=1, keepdim=True)
        ids = torch.where(drafted, view.tokens, view.ids)
        if view.left_out is not None:
            ids = ids.masked_fill(self._revoked(view, view.left_out, before), view.mask_id)
        return Edit(ids)

    def drop_finished(self, kept: Tensor) -> None:
        self._accepted = self._accepted[kept]
        if self._second is not None:
            self._second = self._second[kept.cpu()]

    def _drafted(self, view: View) -> Tensor:
        """The positions whose proposed tokens are accepted, BoolTensor ``[B, G]``."""
        confidence = view.confidence.masked_fill(~view.eligible, -torch.inf)
        most = (7 * view.eligible.sum(dim=1, keepdim=True) // 10).clamp(5, 20)
        passed = (confidence > self._threshold).sum(dim=1, keepdim=True)
        return view.eligible & (_rank(-confidence) < torch.minimum(passed, most).clamp(min=1))

    def _revoked(self, view: View, left_out: Tensor, before: Tensor) -> Tensor:
        """The positions to mask again, BoolTensor ``[B, G]``; ``before``: accepted by the last forward, ``[B, 1]``."""
        assert self._second is not None
        second = self._second.to(view.ids.device)
        probability = torch.full_like(view.confidence, torch.inf)
        probability[second] = probability_of(view.ids[second], left_out, self.options, eos_id=view.eos_id)
        doubted = second & ~view.masked & (probability < self.threshold_back) & (self._accepted > 1)
        probability = probability.masked_fill(~doubted, torch.inf)
        return doubted & ((_rank(probability) < before - 1) | (doubted.sum(dim=1, keepdim=True) < before))


def _rank(values: Tensor) -> Tensor:
    """Rank of each of ``values`` ``[B, G]`` within its sequence, from 0, the lowest first; ties by position."""
    return values.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
