"""Caches for masked diffusion language models behind one interface.

This package imports torch and nothing else of the project. `docs/interface.md` explains the interface; a new cache is
one file here, one line in `registry.py`, one YAML in ``configs/cache`` and one line in the README.
"""

from cache_zoo.base import AttentionBlock, Cache, FeedForwardBlock, KVCache
from cache_zoo.errors import UsageError
from cache_zoo.registry import caches, list_caches, make_cache
from cache_zoo.rows import Rows
from cache_zoo.state import Canvas, Outcome, Step

__all__ = [
    "AttentionBlock",
    "Cache",
    "Canvas",
    "FeedForwardBlock",
    "KVCache",
    "Outcome",
    "Rows",
    "Step",
    "UsageError",
    "caches",
    "list_caches",
    "make_cache",
]
