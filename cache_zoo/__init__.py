"""Caches for masked diffusion language models behind one interface.

This package imports torch and nothing else of the project. `docs/interface.md` explains the interface. A new cache is a
file in ``methods``, a line in `registry.py` and a line in the README; ``cache-zoo new NAME`` writes them, ``cache-zoo
list`` shows what is registered.

Names are imported on first use: code that needs only `UsageError` does not load torch, so saved generations can be
scored without it (`evaluation.report.rescore`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache_zoo.base import Cache, KVCache
    from cache_zoo.blocks import AttentionBlock, FeedForwardBlock
    from cache_zoo.errors import UsageError
    from cache_zoo.info import CacheInfo, ParameterInfo, describe, describe_all
    from cache_zoo.registry import caches, list_caches, list_suffixes, make_cache, make_suffix
    from cache_zoo.rows import Rows
    from cache_zoo.state import Canvas, Columns, Outcome, Step
    from cache_zoo.suffixes.base import Suffix

_MODULES = ("errors", "rows", "state", "blocks", "base", "suffixes.base", "registry", "info")
"""From the lightest on: the first does not load torch."""

__all__ = [
    "AttentionBlock",
    "Cache",
    "CacheInfo",
    "Canvas",
    "Columns",
    "FeedForwardBlock",
    "KVCache",
    "Outcome",
    "ParameterInfo",
    "Rows",
    "Step",
    "Suffix",
    "UsageError",
    "caches",
    "describe",
    "describe_all",
    "list_caches",
    "list_suffixes",
    "make_cache",
    "make_suffix",
]


def __getattr__(name: str) -> Any:
    for module in _MODULES if name in __all__ else ():
        if value := getattr(import_module(f"cache_zoo.{module}"), name, None):
            globals()[name] = value  # later look-ups do not come here
            return value
    raise AttributeError(f"module 'cache_zoo' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
