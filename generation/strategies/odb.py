"""ODB-dLLM: the length of the answer is predicted, and drafts jump a forward ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cache_zoo.errors import require
from generation.options import GenerationOptions
from generation.strategies.ranked import RankedStrategy
from generation.strategies.strategy import Board, Edit, Plan, View, refuse_options

_NO_TOKENS: list[int | list[int]] = []


class ODB(RankedStrategy):
    """Adaptive length prediction and accept-jump decoding (ODB-dLLM, arXiv 2511.21759).

    The first forward of a block predicts all that is left. The first position whose prediction is end of sequence or a
    stop, and is sure, cuts the canvas behind the block that holds it. A complete block with such a token ends the text:
    what is left becomes end of sequence.

    With ``drafts`` the two most confident masks left of a block, ``a`` and ``b``, get their predicted tokens in three
    copies of the block: ``a``, ``b``, and both. The next forward predicts them beside the canvas, which adopts the copy
    whose drafts turn out to be what it writes itself, with what that copy writes next.

    Deviates from the released code, which has the tokens in the decoder, per task, and blocks of 32. Nothing is drafted
    where one mask is left, which changes no token.

    Args:
        options: of the generation.
        stop_tokens: what ends a text besides end of sequence: token ids, and lists of ids that follow each other.
        stop_confidence: least probability of a prediction that cuts the canvas; above 1 none does.
        protected: positions from the block on in which a predicted end of sequence does not cut, at most as many as the
            last cut left; a stop cuts anywhere.
        drafts: decode copies of the block beside it.
    """

    paper = "ODB-dLLM, arXiv 2511.21759"
    resizes = True

    def __init__(
        self,
        options: GenerationOptions,
        stop_tokens: Sequence[int | Sequence[int]] = _NO_TOKENS,
        stop_confidence: float = 0.9,
        protected: int = 128,
        drafts: bool = False,
    ) -> None:
        stops = [[stop] if isinstance(stop, int) else stop for stop in stop_tokens]
        require(
            all(isinstance(stop, Sequence) and stop and all(isinstance(one, int) for one in stop) for stop in stops),
            f"strategy parameter 'stop_tokens' must be a list of token ids and lists of them, not {stop_tokens!r}",
        )
        require(
            stop_confidence >= 0, f"strategy parameter 'stop_confidence' must not be negative, not {stop_confidence}"
        )
        require(protected >= 0, f"strategy parameter 'protected' must not be negative, not {protected}")
        refuse_options(options, "which reads probabilities off its predictions", "alg", "alg_temp")
        refuse_options(options, "which looks for the end of the text", "logits_eos_inf")
        if drafts:
            refuse_options(options, "whose copies have probabilities only", "gamma", "debias")
        super().__init__(options)
        self.stops, self.stop_confidence = [list(stop) for stop in stops], stop_confidence
        self.protected, self.drafts = protected, drafts
        self.rows_beside = 3 * drafts

    def start(self, board: Board) -> None:
        super().start(board)
        self._left = [self.options.gen_length] * len(board.seeds)  # positions that the last cut left
        self._tokens, self._confidence = board.ids, torch.zeros_like(board.ids, dtype=torch.float32)
        self._places = self._drafted = board.ids.new_zeros(len(board.seeds), 2)  # of a and b

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        self._left = [self._left[b] for b in kept.tolist()]
        self._tokens, self._confidence = self._tokens[kept], self._confidence[kept]
        self._places, self._drafted = self._places[kept], self._drafted[kept]

    def plan(self, board: Board) -> Plan:
        plan, inside, rest = super().plan(board), torch.zeros_like(board.open), torch.zeros_like(board.open)
        drafting = False
        for b, region in enumerate(plan.regions):
            if region is None:
                continue
            block = slice(region.start, region.end)
            if board.regions is None or board.regions[b].block != region.block:
                rest[b, region.start :] = True
            elif self.drafts and int(board.open[b, block].sum()) > 1:
                inside[b, block] = drafting = True
        if self.drafts:  # a copy may complete the block earlier
            plan = replace(plan, last=None)
        copies = self._copies(board, inside) if drafting else None
        return replace(plan, logits=rest & board.open if rest.any() else None, copies=copies)

    def _copies(self, board: Board, inside: Tensor) -> Tensor:
        """The three copies, LongTensor ``[B, 3, G]``; ``inside`` are the blocks of the sequences that draft."""
        device = board.ids.device
        score = self._confidence.masked_fill(~(inside & board.open).to(device), -torch.inf)
        self._places = score.argsort(dim=1, descending=True, stable=True)[:, :2]
        self._drafted = self._tokens.gather(1, self._places)
        copies = board.ids.unsqueeze(1).repeat(1, 3, 1)
        for copy, draft in ((0, 0), (1, 1), (2, 0), (2, 1)):
            copies[:, copy].scatter_(1, self._places[:, draft, None], self._drafted[:, draft, None])
        return copies.masked_fill(~inside.to(device).unsqueeze(1), -1)

    def decide(self, view: View) -> Edit:
        assert view.eos_id is not None
        chosen = self.commit(view)
        ids = torch.where(chosen, view.tokens, view.ids)
        self._tokens, self._confidence = view.tokens, view.confidence
        if view.copies is not None:
            ids = self._adopt(view, chosen, ids)
        columns, device = torch.arange(ids.shape[1], device=ids.device), ids.device
        bounds = torch.tensor([region[1:] for region in view.regions], device=device)
        start, end = bounds.T.unsqueeze(2)
        lengths = self._cut(view, columns, start) if 0 in view.block_step else None
        masked, inside = ids == view.mask_id, (columns >= start) & (columns < end)
        over = ~(masked & inside).any(dim=1, keepdim=True)
        over = over & ((inside & (ids == view.eos_id)) | self._stop(ids, inside)).any(dim=1, keepdim=True)
        exists = torch.tensor(lengths or view.lengths or [ids.shape[1]], device=device).unsqueeze(1)
        return Edit(torch.where(over & masked & (columns < exists), view.eos_id, ids), lengths=lengths)

    def _adopt(self, view: View, chosen: Tensor, ids: Tensor) -> Tensor:
        """The canvas or one of its copies, with what it writes; LongTensor ``[B, G]``."""
        assert view.copies is not None
        tokens, confidence, live = view.copies
        written, after = [chosen], [ids]
        for copy in range(3):
            given, free = tokens[:, copy], view.eligible & live[:, copy]
            outside = given < 0  # of the block, where a copy is the canvas
            masked = live[:, copy] | torch.where(outside, view.masked, given == view.mask_id)
            seen = replace(view, eligible=free, confidence=confidence[:, copy], masked=masked)
            written.append(self.commit(seen))
            proposed = torch.where(outside, view.ids, given)
            after.append(torch.where(live[:, copy] & ~written[-1], view.ids, proposed))
        all_tokens = torch.stack([view.tokens, *tokens.unbind(dim=1)], dim=1)

        def writes(copy: int, draft: int) -> Tensor:
            """Whether a copy (0: the canvas) writes a draft, BoolTensor ``[B]``."""
            place, token = self._places[:, draft, None], self._drafted[:, draft, None]
            return (written[copy].gather(1, place) & (all_tokens[:, copy].gather(1, place) == token)).squeeze(1)

        first, second = writes(0, 0), writes(0, 1)
        both = (first & (second | writes(1, 1))) | (second & writes(2, 0))
        choice = torch.where(first, 1, torch.where(second, 2, 0)).masked_fill(both, 3)
        drafted = (tokens >= 0).any(dim=2).any(dim=1)
        choice = choice.masked_fill(~drafted, 0)
        rows = torch.arange(len(choice), device=choice.device)
        self._tokens = torch.where((all_tokens >= 0)[rows, choice], all_tokens[rows, choice], view.tokens)
        self._confidence = torch.cat((view.confidence.unsqueeze(1), confidence), dim=1)[rows, choice]
        return torch.stack(after, dim=1)[rows, choice]

    def _cut(self, view: View, columns: Tensor, start: Tensor) -> list[int] | None:
        """Columns that exist, of sequences whose block has begun up to the predicted end; None: as before."""
        begun = torch.tensor([step == 0 for step in view.block_step], device=columns.device).unsqueeze(1)
        sure = begun & view.live & (columns >= start) & (view.confidence >= self.stop_confidence)
        shield = torch.tensor([min(self.protected, left) for left in self._left], device=columns.device).unsqueeze(1)
        ends = (sure & (view.tokens == view.eos_id) & (columns >= start + shield)) | self._stop(view.tokens, sure)
        places = torch.where(ends, columns, columns.shape[0]).amin(dim=1).tolist()
        block, total = self.options.block, self.options.gen_length
        lengths = list(view.lengths or [total] * len(places))
        for b, (place, region) in enumerate(zip(places, view.regions, strict=True)):
            if place < total:
                self._left[b] = -(-(place + 1 - region.start) // block) * block
                lengths[b] = min(lengths[b], region.start + self._left[b])
        return None if lengths == (view.lengths or [total] * len(places)) else lengths

    def _stop(self, tokens: Tensor, among: Tensor) -> Tensor:
        """Where a stop begins whose tokens are all at positions of ``among``, BoolTensor ``[B, G]``."""
        found = torch.zeros_like(among)
        for stop in self.stops:
            here = among.clone()
            for offset, token in enumerate(stop):
                match = (tokens == token) & among
                here[:, : tokens.shape[1] - offset] &= match[:, offset:]
                here[:, tokens.shape[1] - offset :] = False
            found |= here
        return found
