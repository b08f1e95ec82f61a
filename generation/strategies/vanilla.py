"""Confidence-ranked decoding, over the full canvas or block by block."""

from __future__ import annotations

from generation.options import GenerationOptions
from generation.strategies.ranked import RankedStrategy


class Vanilla(RankedStrategy):
    """Decode block after block; commit the most confident tokens: a fixed number, a schedule, or what a rule allows.

    LLaDA's low-confidence remasking (arXiv 2502.09992, algorithm 5), Dream's schedule (arXiv 2508.15487), Fast-dLLM's
    parallel decoding (arXiv 2505.22618), Fast-dLLM++ (arXiv 2606.02955), EB-Sampler (arXiv 2505.24857),
    Streaming-dLLM's dynamic threshold (arXiv 2601.17917), PC-Sampler's calibration (arXiv 2508.13021) and d2Cache's
    certainty prior (arXiv 2509.23094) are settings of this strategy.

    Deviates from Dream, whose number of tokens per forward is one for the batch, of the mean number of masks.
    """

    paper = "LLaDA, arXiv 2502.09992"

    def __init__(self, options: GenerationOptions) -> None:
        super().__init__(options)
