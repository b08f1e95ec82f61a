"""Choices that do not go together: refused before anything runs."""

from __future__ import annotations

from cache_zoo import Cache
from cache_zoo.errors import require
from cache_zoo.stores import store_problem
from generation.strategies.strategy import Strategy


def require_compatible(cache: Cache, strategy: Strategy, store: str = "native") -> None:
    """Raise `UsageError` unless ``cache`` can decode with ``strategy`` and keep its keys and values in ``store``."""
    problem = store_problem(cache, store)
    require(problem is None, str(problem))
    require(
        strategy.plans_ahead or not cache.needs_planned,
        f"{type(cache).__name__} must know before a forward which positions it will commit, and "
        f"{type(strategy).__name__} decides afterwards with these options; alg=random without a threshold or factor "
        "knows them",
    )
    require(
        cache.keeps_columns or not strategy.leaves_out,
        f"{type(cache).__name__} keeps keys and values of some columns only, and {type(strategy).__name__} predicts "
        "tokens a second time from all of them; try cache=none or dual",
    )
