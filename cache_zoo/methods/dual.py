"""Fast-dLLM's dual cache."""

from cache_zoo.methods.prefix import PrefixCache


class DualCache(PrefixCache):
    """Freeze everything outside the current block, prefix and suffix (Fast-dLLM, arXiv 2505.22618, section 3.2).

    The first forward of each block recomputes the whole canvas; afterwards only the block runs.
    """

    def __init__(self) -> None:
        super().__init__(use_dual=True)
