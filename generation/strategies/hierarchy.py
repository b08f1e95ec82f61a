"""dInfer's hierarchical decoding: the best token of every run of masks."""

from __future__ import annotations

import torch
from torch import Tensor

from cache_zoo.errors import require
from generation.options import GenerationOptions
from generation.strategies.ranked import UNRANKED_ALGS, RankedStrategy
from generation.strategies.strategy import View, refuse_options


class Hierarchy(RankedStrategy):
    """Commit, besides what the options say, the most confident token of each run of neighbouring masks.

    So tokens far apart are committed together and split the masks into shorter runs (dInfer, arXiv 2510.08666, section
    4). With it goes a ``threshold``: 0.92 in the released code.

    Args:
        options: of the generation.
        low: confidence above which the best of a run is committed, in [0, 1].
    """

    paper = "dInfer, arXiv 2510.08666"

    def __init__(self, options: GenerationOptions, low: float = 0.4) -> None:
        require(0 <= low <= 1, f"strategy parameter 'low' must be between 0 and 1, not {low}")
        refuse_options(options, "which ranks by probabilities", "alg=entropy", *UNRANKED_ALGS)
        super().__init__(options, counted=False)
        self.low = low

    def commit(self, view: View) -> Tensor:
        return super().commit(view) | (best_of_runs(view.confidence, view.eligible) & (view.confidence > self.low))


def best_of_runs(score: Tensor, places: Tensor) -> Tensor:
    """The best position of each run of neighbouring ``places``, the first among equals; BoolTensor ``[B, G]``.

    Args:
        score: float32 ``[B, G]``.
        places: BoolTensor ``[B, G]``.
    """
    after = torch.zeros_like(places)
    after[:, 1:] = places[:, :-1]
    run = (places & ~after).cumsum(dim=1) * places  # 1, 2, ... inside of runs, 0 outside
    order = score.argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    first = torch.full((places.shape[0], places.shape[1] + 1), places.shape[1], device=score.device)
    first.scatter_reduce_(1, run, rank, "amin")
    return places & (rank == first.gather(1, run))
