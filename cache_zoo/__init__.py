"""Caches for masked diffusion language models behind one interface.

This package imports torch and nothing else of the project. `docs/interface.md` explains the interface; a new cache is
one file here, one line in `registry.py`, one YAML in ``configs/cache`` and one line in the README, which ``python -m
cache_zoo new NAME`` writes. ``cache-zoo list`` shows what there is.

Names are imported when they are first used: who needs nothing but `UsageError` does not load torch, which lets saved
generations be scored where there is none (`evaluation.report.rescore`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache_zoo.base import AttentionBlock, Cache, FeedForwardBlock, KVCache
    from cache_zoo.errors import UsageError
    from cache_zoo.info import CacheInfo, ParameterInfo, describe, describe_all
    from cache_zoo.registry import caches, list_caches, make_cache
    from cache_zoo.rows import Rows
    from cache_zoo.state import Canvas, Outcome, Step

_MODULES = {
    "AttentionBlock": "base",
    "Cache": "base",
    "CacheInfo": "info",
    "Canvas": "state",
    "FeedForwardBlock": "base",
    "KVCache": "base",
    "Outcome": "state",
    "ParameterInfo": "info",
    "Rows": "rows",
    "Step": "state",
    "UsageError": "errors",
    "caches": "registry",
    "describe": "info",
    "describe_all": "info",
    "list_caches": "registry",
    "make_cache": "registry",
}

__all__ = [
    "AttentionBlock",
    "Cache",
    "CacheInfo",
    "Canvas",
    "FeedForwardBlock",
    "KVCache",
    "Outcome",
    "ParameterInfo",
    "Rows",
    "Step",
    "UsageError",
    "caches",
    "describe",
    "describe_all",
    "list_caches",
    "make_cache",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'cache_zoo' has no attribute '{name}'")
    value = getattr(import_module(f"cache_zoo.{_MODULES[name]}"), name)
    globals()[name] = value  # the next look-up finds it without asking here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
