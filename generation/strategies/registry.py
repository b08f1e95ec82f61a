"""The registry of decoding strategies."""

from cache_zoo.registry import Registry
from generation.options import GenerationOptions
from generation.strategies.strategy import Strategy

strategies = Registry(
    kind="strategy",
    base=Strategy,
    builtin={
        "vanilla": "generation.strategies.vanilla:Vanilla",
        "window": "generation.strategies.window:Window",
        "sliding": "generation.strategies.sliding:Sliding",
        "adablock": "generation.strategies.adablock:AdaBlock",
        "cadllm": "generation.strategies.cadllm:CadLLM",
        "odb": "generation.strategies.odb:ODB",
        "daedal": "generation.strategies.daedal:Daedal",
        "slowfast": "generation.strategies.slowfast:SlowFast",
        "wino": "generation.strategies.wino:Wino",
    },
    group="cache_zoo.strategies",
)


def make_strategy(options: GenerationOptions) -> Strategy:
    """The strategy that ``options`` name, with its own parameters.

    Raises:
        UsageError: unknown name or parameter, or an invalid value.
    """
    strategy: Strategy = strategies.make(options.strategy, options=options, **options.parameters)
    return strategy
