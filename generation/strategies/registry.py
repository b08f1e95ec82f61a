"""The registry of decoding strategies."""

from cache_zoo.registry import Registry
from generation.strategies.strategy import Strategy

strategies = Registry(
    kind="strategy",
    base=Strategy,
    builtin={
        "vanilla": "generation.strategies.vanilla:Vanilla",
        "window": "generation.strategies.window:Window",
        "sliding": "generation.strategies.sliding:Sliding",
    },
    group="cache_zoo.strategies",
)
