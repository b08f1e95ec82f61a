"""DAEDAL: the canvas begins short, and grows until the model expects the text to end in it."""

from __future__ import annotations

import torch
from torch import Tensor

from cache_zoo.errors import require
from generation.options import GenerationOptions
from generation.strategies.strategy import (
    RANKING,
    Board,
    Edit,
    Plan,
    Region,
    Strategy,
    View,
    first_open_block,
    refuse_options,
)

_EOS = ("alg", "logits_eos_inf", "confidence_eos_eot_inf", "eos")


class Daedal(Strategy):
    """Adapt the length to the answer (DAEDAL, arXiv 2508.00819, section 3).

    ``gen_length`` is the most. First, the canvas of ``initial_length`` masks gets ``expansion`` more at its end with
    every forward, until the mean probability of end of sequence at the last ``eos_window`` positions that predict it
    reaches ``eos_threshold``; missing positions count as 0. Then ``eos_window / 2`` such tokens close it. After that,
    blocks are decoded: every mask above ``threshold``, here 0.9 unless given, and at least the best. As long as that
    mean, over all positions, committed ones included, is below ``expand_threshold``, the least confident of the other
    masks of the block becomes ``expansion`` masks if it is below ``low_threshold``. What exceeds ``gen_length`` is cut.

    Of positions that a cache or a suffix rule did not run, the last known prediction counts. Caches see a new block
    when a sequence has grown, and one that is the whole canvas as long as the first length is sought.

    Deviates from the released code: guidance counts from the first forward on, each sequence of a batch grows at its
    own pace, and padding is masked.

    Args:
        options: of the generation.
        initial_length: masks at first, at least 1; at most ``gen_length`` of them.
        expansion: masks that are added at once, at least 2.
        low_threshold: confidence below which a mask may become more, in [0, 1]; 0: none.
        eos_threshold: probability of the end from which on the canvas is long enough to begin with; 0: at once.
        expand_threshold: probability of the end from which on nothing is inserted.
        eos_window: positions over which that probability is averaged, at least 1.
    """

    paper = "DAEDAL, arXiv 2508.00819"
    resizes = True

    def __init__(
        self,
        options: GenerationOptions,
        initial_length: int = 64,
        expansion: int = 8,
        low_threshold: float = 0.1,
        eos_threshold: float = 0.5,
        expand_threshold: float = 0.9,
        eos_window: int = 32,
    ) -> None:
        for name, value, least in (("initial_length", initial_length, 1), ("eos_window", eos_window, 1)):
            require(value >= least, f"strategy parameter '{name}' must be at least {least}, not {value}")
        require(expansion >= 2, f"strategy parameter 'expansion' must be at least 2, not {expansion}")
        shares = {"low": low_threshold, "eos": eos_threshold, "expand": expand_threshold}
        for name, share in shares.items():
            require(0 <= share <= 1, f"strategy parameter '{name}_threshold' must be between 0 and 1, not {share}")
        refuse_options(options, "which decodes by thresholds", *RANKING)
        refuse_options(options, "which takes the length from the probability of end of sequence", *_EOS)
        super().__init__(options)
        self.counted = False
        self.expansion, self.eos_window = expansion, eos_window
        self.low_threshold, self.eos_threshold, self.expand_threshold = low_threshold, eos_threshold, expand_threshold
        self._first = min(initial_length, options.gen_length)
        self._threshold = 0.9 if options.threshold is None else options.threshold
        self.patience = 1 if eos_window > 1 else 2  # with nothing to close the canvas, a forward may change nothing

    @property
    def initial_length(self) -> int:
        return self._first

    @property
    def most_forwards(self) -> int:
        return 2 * self.options.gen_length + self.expansion  # growing ones, and those that commit what is cut off

    def start(self, board: Board) -> None:
        batch = len(board.seeds)
        self._is_short = [self._first < self.options.gen_length] * batch
        self._grew = [False] * batch
        self._ending = torch.zeros(board.ids.shape, device=board.ids.device)  # probabilities where it is predicted

    def plan(self, board: Board) -> Plan:
        assert board.lengths is not None
        regions: list[Region | None] = []
        exists, candidates = torch.zeros_like(board.masked), board.open.clone()
        for b, region in enumerate(first_open_block(board.open, self.options.block)):
            length = board.lengths[b]
            if region is not None:
                bounds = (0, length) if self._is_short[b] else (region.start, min(region.end, length))
                number = board.regions[b].block if board.regions else 0
                is_new = board.regions is not None and (self._grew[b] or board.regions[b][1:] != bounds)
                region = Region(number + is_new, *bounds)
                candidates[b] &= not self._is_short[b]
                exists[b, :length] = length < self.options.gen_length  # it has no need of the end any more
            regions.append(region)
        if not bool(exists.any()):
            return Plan(regions, candidates)
        return Plan(regions, candidates, logits=exists)

    def decide(self, view: View) -> Edit:
        assert view.lengths is not None
        assert view.eos_id is not None
        ending = view.confidence.where(view.tokens == view.eos_id, 0)
        self._ending = torch.where(view.live, ending, self._ending)
        confidence = view.confidence.masked_fill(~view.eligible, -torch.inf)
        number = (confidence > self._threshold).sum(dim=1, keepdim=True).clamp(min=1)
        order = confidence.argsort(dim=1, descending=True, stable=True)
        filled = view.eligible & (order.argsort(dim=1) < number)
        least, place = confidence.masked_fill(~view.eligible | filled, torch.inf).min(dim=1)
        ids, moved = torch.where(filled, view.tokens, view.ids), torch.zeros_like(filled)
        lengths = list(view.lengths)
        found = torch.stack((self._expected_end(lengths), least, place.float())).T.tolist()
        for b, (end, lowest, column) in enumerate(found):
            if self._is_short[b]:
                lengths[b] = self._lengthen(b, ids, lengths[b], end, view.eos_id)
            elif lowest < self.low_threshold and end < self.expand_threshold and lengths[b] < ids.shape[1]:
                lengths[b] = self._insert(ids[b], moved[b], self._ending[b], int(column), lengths[b], view.mask_id)
            self._grew[b] = lengths[b] != view.lengths[b]
        return Edit(ids, moved if any(self._grew) else None, lengths)

    def drop_finished(self, kept: Tensor) -> None:
        some = kept.tolist()
        self._is_short, self._grew = [self._is_short[b] for b in some], [self._grew[b] for b in some]
        self._ending = self._ending[kept]

    def _expected_end(self, lengths: list[int]) -> Tensor:
        """Mean probability of the end at the last positions that predict it, float32 ``[B]``."""
        columns = torch.arange(self._ending.shape[1], device=self._ending.device)
        exists = columns < torch.tensor(lengths, device=columns.device)[:, None]
        predicts = exists & (self._ending > 0)
        last = predicts & (predicts.flip(1).cumsum(dim=1).flip(1) <= self.eos_window)
        return torch.where(last, self._ending, 0).sum(dim=1) / self.eos_window

    def _lengthen(self, b: int, ids: Tensor, length: int, end: float, eos_id: int) -> int:
        """Add masks at the end of sequence ``b``, or the tokens that close it; returns its length."""
        most = ids.shape[1]
        if end < self.eos_threshold:
            longer = min(length + self.expansion, most)
            self._is_short[b] = longer < most
            return longer
        self._is_short[b] = False
        longer = min(length + self.eos_window // 2, most)
        ids[b, length:longer] = eos_id
        return longer

    def _insert(self, ids: Tensor, moved: Tensor, ending: Tensor, column: int, length: int, mask_id: int) -> int:
        """Make the mask of one sequence at ``column`` several; returns its length. All tensors are ``[G]``."""
        longer = min(length + self.expansion - 1, len(ids))
        behind = min(column + self.expansion, longer)
        for values, new in ((ids, mask_id), (ending, 0)):
            tail = values[column + 1 : column + 1 + longer - behind].clone()
            values[column:behind] = new
            values[behind:longer] = tail
        moved[column + 1 : longer] = True
        return longer
