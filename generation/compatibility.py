"""Choices that do not go together: refused before anything runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cache_zoo import Cache, UsageError
from cache_zoo.errors import require
from cache_zoo.stores import store_problem
from generation.options import RULES
from generation.strategies.registry import make_strategy
from generation.strategies.strategy import Strategy


def require_compatible(cache: Cache, strategy: Strategy, store: str = "native") -> None:
    """Raise `UsageError` unless ``cache`` can decode with ``strategy`` and keep its keys and values in ``store``."""
    problem = store_problem(cache, store)
    require(problem is None, str(problem))
    if cache.needs_planned and not strategy.plans_ahead:
        raise UsageError(
            f"{type(cache).__name__} must know before a forward which positions it will commit, and "
            f"{type(strategy).__name__} decides afterwards{_way_to_plan(strategy)}"
        )
    require(
        cache.keeps_columns or not strategy.rows_beside,
        f"{type(cache).__name__} keeps keys and values of some columns only, and {type(strategy).__name__} predicts "
        "tokens a second time from all of them; try cache=none or dual",
    )


def _way_to_plan(strategy: Strategy) -> str:
    """What would let ``strategy`` say beforehand what it commits."""
    without_rules: dict[str, Any] = dict.fromkeys(RULES)
    try:
        in_random_order = replace(strategy.options, alg="random", alg_temp=None, **without_rules)
        plans_ahead = make_strategy(in_random_order).plans_ahead
    except UsageError:  # a random order goes neither with its rule nor with other options
        plans_ahead = False
    if plans_ahead:
        return " with these options; alg=random without a threshold or another rule knows them"
    return "; choose another cache"
