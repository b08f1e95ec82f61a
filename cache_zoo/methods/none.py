"""No cache, the baseline of all others."""

from typing import Any, ClassVar

from cache_zoo.base import Cache


class NoCache(Cache):
    """Every row runs in every step, as in the official LLaDA and Dream samplers (arXiv 2502.09992, 2508.15487)."""

    paper = "no cache: LLaDA, arXiv 2502.09992; Dream 7B, arXiv 2508.15487"
    exact = True
    exact_with: ClassVar[dict[str, Any] | None] = {}
