"""Whether a change makes forwards slower: ``python -m benchmarks.checkouts before=../before``.

Two checkouts of this repository decode the same prompt with the same weights, in one process and by turns. In two
processes the same code differs by up to ten percent, by where weights happen to lie in memory. The processor time of
one thread is compared, which other programs disturb less than the clock.
A checkout of an earlier commit is made by ``git worktree add --detach ../before COMMIT``.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import torch

from cache_zoo.arguments import read
from cache_zoo.errors import require

ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("benchmarks", "cache_zoo", "generation", "models", "evaluation")


@dataclass(frozen=True)
class CheckoutOptions:
    """Whether a change makes forwards slower.

    Attributes:
        before, after: folders of two checkouts; both run in this environment.
        width, layers, vocab: sizes of the random model.
        prompt, gen, block: tokens of the prompt, of the generation and of a block.
        rounds: decodings of each checkout per cache, after one to warm up.
        caches: names of `cache-zoo list` that both checkouts have.
    """

    before: Path
    after: Path = ROOT
    width: int = 512
    layers: int = 8
    vocab: int = 4096
    prompt: int = 256
    gen: int = 16
    block: int = 16
    rounds: int = 12
    caches: list[str] = field(default_factory=lambda: ["none", "prefix", "dual", "dllm", "d2cache"])


class Checkout:
    """The packages of a checkout beside those of others: imported while it is in use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        require((self._folder / "benchmarks").is_dir(), f"{folder} is no checkout of this repository")
        self._modules: dict[str, ModuleType] = {}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, the names of the packages mean those of this checkout."""
        others = _ours()
        _replace(self._modules)
        sys.path.insert(0, str(self._folder))
        try:
            yield
        finally:
            self._modules = _ours()
            sys.path.remove(str(self._folder))
            _replace(others)

    def model(self, options: CheckoutOptions) -> Any:
        """A random model of this checkout's class."""
        with self.in_use():
            make = import_module("benchmarks.step_cost").random_model
            return make(options.width, options.layers, options.vocab, torch.float32, "cpu")

    def seconds(self, model: Any, prompt: Sequence[int], name: str, options: CheckoutOptions) -> float:
        """Processor time of one forward, on average over one decoding."""
        with self.in_use():
            cache = import_module("cache_zoo").make_cache(name)
            generate = import_module("generation").generate
            started = time.process_time()
            output = generate(model, [prompt], cache, gen_length=options.gen, block_length=options.block)
            return float((time.process_time() - started) / output.nfe)


def _ours() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in _PACKAGES}


def _replace(modules: dict[str, ModuleType]) -> None:
    """Let the packages be these modules and no others."""
    for name in _ours():
        del sys.modules[name]
    sys.modules.update(modules)


def measure(options: CheckoutOptions) -> list[dict[str, Any]]:
    """One row per cache: medians in ms, and the ratio of the two decodings of a round: its median and its quartiles."""
    checkouts = [Checkout(folder) for folder in (options.before, options.after)]
    models = [checkout.model(options) for checkout in checkouts]
    models[1].load_state_dict(models[0].state_dict(), assign=True)  # one copy of the weights
    prompt = torch.randint(0, options.vocab - 2, (options.prompt,)).tolist()
    rows = []
    for cache in options.caches:
        times: list[list[float]] = [[], []]
        for number in range(options.rounds + 1):
            for which in (0, 1) if number % 2 else (1, 0):
                times[which].append(checkouts[which].seconds(models[which], prompt, cache, options))
        before, after = (found[1:] for found in times)
        ratios = [late / early for early, late in zip(before, after, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        medians = {"before_ms": 1e3 * statistics.median(before), "after_ms": 1e3 * statistics.median(after)}
        rows.append({"cache": cache, **medians, "ratio": middle, "lower_quartile": low, "upper_quartile": high})
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = read(CheckoutOptions, "python -m benchmarks.checkouts", arguments)
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a canvas of one block is meant
        rows = measure(options)
    sizes = f"width {options.width}, {options.layers} layers, prompt {options.prompt}, gen {options.gen}"
    print(
        f"{date.today()}, {platform.machine()}, 1 thread, float32, {sizes}, {options.rounds} rounds, processor time\n"
    )
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
