"""The registry of decoding strategies."""

from cache_zoo.registry import Registry
from generation.strategies.strategy import Strategy

strategies = Registry(
    kind="strategy",
    base=Strategy,
    builtin={"vanilla": "generation.strategies.vanilla:Vanilla"},
    group="cache_zoo.strategies",
)
