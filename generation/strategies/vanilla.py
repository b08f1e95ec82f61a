"""Confidence-ranked decoding, over the full canvas or block by block."""

from __future__ import annotations

import torch
from torch import Tensor

from cache_zoo.methods.certainty import certainty_density
from generation.selection import commit_best, quota
from generation.strategies.strategy import Strategy, View


class Vanilla(Strategy):
    """Commit the most confident tokens: a fixed number, a schedule, a threshold or a factor.

    LLaDA's low-confidence remasking (arXiv 2502.09992, algorithm 5), Fast-dLLM's parallel decoding (arXiv 2505.22618)
    and d2Cache's certainty prior (arXiv 2509.23094) are settings of this strategy.
    """

    def commit(self, view: View) -> Tensor:
        score = view.confidence
        if self.options.sigma:
            score = score * certainty_density(~view.masked, self.options.sigma)
        least = [quota(self.options, forwards) for forwards in view.block_step]
        return commit_best(score, view.eligible, torch.tensor(least, device=score.device), self.options)
