"""Whether a change makes forwards slower: ``python -m benchmarks.checkouts before=../before``.

Two checkouts of this repository decode the same prompt in a process each, by turns, so that a change of the machine's
speed hits both alike. The processor time of one thread is compared, which other programs disturb less than the clock.
Several pairs of processes are started, since two processes of the same code differ by some percent for as long as they
run, by where their weights happen to lie in memory.
A checkout of an earlier commit is made by ``git worktree add --detach ../before COMMIT``.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from cache_zoo.arguments import read
from cache_zoo.errors import require

ROOT = Path(__file__).resolve().parents[1]
_DECODING = """
import sys, time, warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
from benchmarks.step_cost import random_model
from cache_zoo import make_cache
from generation import generate
width, layers, vocab, prompt, gen, block = map(int, sys.argv[1:])
model = random_model(width, layers, vocab, torch.float32, "cpu")
prompts = [torch.randint(0, vocab - 2, (prompt,)).tolist()]
print("ready", flush=True)
for line in sys.stdin:
    started = time.process_time()
    out = generate(model, prompts, make_cache(line.strip()), gen_length=gen, block_length=block)
    print((time.process_time() - started) / out.nfe, flush=True)
"""


@dataclass(frozen=True)
class CheckoutOptions:
    """Whether a change makes forwards slower.

    Attributes:
        before, after: folders of two checkouts; both run in this environment.
        width, layers, vocab: sizes of the random model.
        prompt, gen, block: tokens of the prompt, of the generation and of a block.
        pairs: of processes.
        rounds: decodings per cache and process; medians over all are compared.
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
    pairs: int = 5
    rounds: int = 3
    caches: list[str] = field(default_factory=lambda: ["none", "prefix", "dual", "dllm", "d2cache"])


class Checkout:
    """A process that decodes with the code of ``folder``."""

    def __init__(self, folder: Path, arguments: CheckoutOptions) -> None:
        require((folder / "benchmarks").is_dir(), f"{folder} is no checkout of this repository")
        self._folder = folder
        sizes = [getattr(arguments, name) for name in ("width", "layers", "vocab", "prompt", "gen", "block")]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _DECODING, *map(str, sizes)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder.resolve()), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def seconds(self, cache: str) -> float:
        """Processor time of one forward, on average over one decoding."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{cache}\n")
        self._process.stdin.flush()
        return float(self._answer())

    def end(self) -> None:
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        require(line != "", f"the process that decodes with {self._folder} ended")
        return line


def measure(arguments: CheckoutOptions) -> dict[str, list[tuple[list[float], list[float]]]]:
    """Per cache and pair of processes: seconds per forward in each round, before and after."""
    found: dict[str, list[tuple[list[float], list[float]]]] = {cache: [] for cache in arguments.caches}
    for _ in range(arguments.pairs):
        both = [Checkout(folder, arguments) for folder in (arguments.before, arguments.after)]
        for cache, pairs in found.items():
            for one in both:
                one.seconds(cache)  # warm-up
            times: tuple[list[float], list[float]] = ([], [])
            for number in range(arguments.rounds):
                for which in (0, 1) if number % 2 else (1, 0):
                    times[which].append(both[which].seconds(cache))
            pairs.append(times)
        for one in both:
            one.end()
    return found


def report(measured: dict[str, list[tuple[list[float], list[float]]]]) -> list[dict[str, Any]]:
    """One row per cache: medians, their ratio, and the least and the largest ratio of a pair of processes."""
    rows = []
    for cache, pairs in measured.items():
        before, after = (statistics.median(chain(*(pair[which] for pair in pairs))) for which in (0, 1))
        ratios = [statistics.median(late) / statistics.median(early) for early, late in pairs]
        rows.append(
            {
                "cache": cache,
                "before_ms": 1e3 * before,
                "after_ms": 1e3 * after,
                "ratio": after / before,
                "ratio_min": min(ratios),
                "ratio_max": max(ratios),
            }
        )
    return rows


def main(argv: list[str] | None = None) -> int:
    """Measure and print the table."""
    arguments = read(CheckoutOptions, "python -m benchmarks.checkouts", argv)
    rows = report(measure(arguments))
    sizes = f"width {arguments.width}, {arguments.layers} layers, prompt {arguments.prompt}, gen {arguments.gen}"
    rounds = f"{arguments.pairs} pairs of processes, {arguments.rounds} rounds each"
    print(f"{date.today()}, {platform.machine()}, 1 thread, float32, {sizes}, {rounds}, processor time\n")
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
