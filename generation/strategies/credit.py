"""CreditDecoding: logits that remember what was likely before."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cache_zoo.errors import require
from generation.options import GenerationOptions
from generation.sampling import propose, uniform_of
from generation.strategies.lines import Lines
from generation.strategies.ranked import RankedStrategy
from generation.strategies.strategy import Board, Edit, View, refuse_options


class Credit(RankedStrategy):
    """Token and confidence come from ``logits + credit_alpha * log(1 + credit)``; what is committed the options say.

    Each masked position of a block keeps a credit per token. In every forward it fades to ``decay_beta`` of itself,
    and the likeliest token ``p`` gains ``p ** boost_gamma``; a new block begins with none (CreditDecoding, arXiv
    2510.06133; dInfer, arXiv 2510.08666). With it goes a ``threshold``: 0.8 in the released code.

    Deviates from the released code, where a request that ends early leaves its credit to the next one.

    Args:
        options: of the generation.
        credit_alpha: weight of the credit, at least 0; 0: none.
        boost_gamma: exponent of the probability, at least 0.
        decay_beta: share that is left after a forward, in [0, 1].
    """

    paper = "CreditDecoding, arXiv 2510.06133"
    needs_logits = True

    def __init__(
        self,
        options: GenerationOptions,
        credit_alpha: float = 0.7,
        boost_gamma: float = 0.2,
        decay_beta: float = 0.8,
    ) -> None:
        name = "strategy parameter"
        require(credit_alpha >= 0, f"{name} 'credit_alpha' must not be negative, not {credit_alpha}")
        require(boost_gamma >= 0, f"{name} 'boost_gamma' must not be negative, not {boost_gamma}")
        require(0 <= decay_beta <= 1, f"{name} 'decay_beta' must be between 0 and 1, not {decay_beta}")
        super().__init__(options)
        refuse_options(options, "which changes the logits", "confidence_eos_eot_inf")
        self.credit_alpha, self.boost_gamma, self.decay_beta = credit_alpha, boost_gamma, decay_beta

    def start(self, board: Board) -> None:
        super().start(board)
        self._of_block = [-1] * len(board.seeds)
        self._credit: Lines | None = None  # of each token, at the masks of the block

    def decide(self, view: View) -> Edit:
        assert view.logits is not None
        credit, fused, options = self._earned(view, view.logits), view.logits.clone(), self.options
        here = credit.places & view.live
        fused[here[view.live]] += self.credit_alpha * credit.at(here).log1p()
        self._credit = credit
        uniform = self._uniform(view) if options.temperature > 0 else None
        rows = fused.clone() if options.gamma is not None else fused
        tokens, confidence = propose(rows, options, view.mask_id, uniform, eos_id=view.eos_id)
        tokens, confidence = view.spread(tokens), view.spread(confidence).masked_fill(~view.live, -torch.inf)
        chosen = self.commit(replace(view, tokens=tokens, confidence=confidence, logits=fused))
        return Edit(torch.where(chosen, tokens, view.ids))

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        self._of_block = [self._of_block[b] for b in kept.tolist()]
        self._credit = None if self._credit is None else self._credit.keep(kept)

    def _earned(self, view: View, logits: Tensor) -> Lines:
        """The credit of the masks of each region, with that of this forward."""
        device = logits.device
        columns = torch.arange(view.masked.shape[1], device=device)
        start, end = torch.tensor([[region.start, region.end] for region in view.regions], device=device).T.unsqueeze(2)
        places = view.masked & (columns >= start) & (columns < end)
        credit = Lines(places, logits.new_zeros(int(places.sum()), logits.shape[1]))
        blocks = [region.block for region in view.regions]
        if self._credit is not None:
            same = torch.tensor([old == new for old, new in zip(self._of_block, blocks, strict=True)], device=device)
            both = self._credit.places & places & same[:, None]
            credit.values[both[places]] = self.decay_beta * self._credit.at(both)
        self._of_block = blocks
        ran = logits[(places & view.live)[view.live]]
        allowed = ran.index_fill(1, torch.tensor(self._excluded(view), device=device), -torch.inf)
        best, token = allowed.max(dim=1)
        gain = (best - ran.logsumexp(dim=1)).exp() ** self.boost_gamma
        at = view.live[places].nonzero().squeeze(1)
        credit.values[at, token] += gain
        return credit

    def _excluded(self, view: View) -> list[int]:
        """Tokens that are never proposed."""
        ends = [view.eos_id] if self.options.logits_eos_inf and view.eos_id is not None else []
        return [view.mask_id, *ends]

    def _uniform(self, view: View) -> Tensor:
        """A number for each live position: that of the sequence and its forward."""
        numbers = zip(view.seeds, self._forwards, strict=True)
        drawn = [uniform_of([seed], view.live.shape[1], f"credit {forwards}") for seed, forwards in numbers]
        return torch.cat(drawn).to(view.live.device)[view.live]
