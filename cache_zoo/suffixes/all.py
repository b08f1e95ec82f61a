"""Everything behind the block takes part, as in the samplers of LLaDA and Dream."""

from cache_zoo.suffixes.base import Suffix


class AllSuffix(Suffix):
    """Every column of the canvas is visible in every forward (LLaDA, arXiv 2502.09992; Dream 7B, arXiv 2508.15487)."""

    paper = "whole suffix: LLaDA, arXiv 2502.09992; Dream 7B, arXiv 2508.15487"
