"""What one forward costs with each cache, against counted work: ``python -m benchmarks.step_cost``.

A LLaDA-shaped random model decodes the same prompt with every cache in turn, several rounds over, in one process, so
that a change of the machine's speed hits all of them alike. Reported are medians over rounds, with the spread, beside
the rate of the network's matrix products alone at each cache's number of rows: few rows multiply at a lower rate on
any machine.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import partial
from typing import Any, Literal, TypeVar

import pandas as pd
import torch

from cache_zoo import Cache, list_caches, make_cache
from cache_zoo.arguments import read
from generation import GenerationOutput, generate
from models import Transformer
from models.loading import find_family

T = TypeVar("T")
_REPEATS = 20  # of a matrix product


@dataclass(frozen=True)
class StepCostOptions:
    """What one forward costs with each cache, against counted work.

    Attributes:
        width, layers, vocab: sizes of the random model.
        prompt, gen, block: tokens of the prompt, of the generation and of a block.
        tokens: tokens committed per forward.
        rounds: decodings per cache; medians are reported.
        threads: CPU threads of torch.
        dtype, device: of the model.
        caches: names of `cache-zoo list`; none is always measured.
    """

    width: int = 512
    layers: int = 8
    vocab: int = 4096
    prompt: int = 512
    gen: int = 128
    block: int = 32
    tokens: int = 1
    rounds: int = 5
    threads: int = field(default_factory=torch.get_num_threads)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    caches: list[str] = field(default_factory=list_caches)


def random_model(width: int, layers: int, vocab: int, dtype: torch.dtype, device: str) -> Transformer:
    """A LLaDA-shaped network (8 heads, feed-forward three times the width) with random weights."""
    config = find_family("llada").new_config(
        vocab_size=vocab,
        hidden_size=width,
        num_layers=layers,
        num_heads=8,
        num_kv_heads=8,
        intermediate_size=3 * width,
        rope_theta=500000.0,
        tied=False,
        context_length=8192,
        mask_id=vocab - 1,
        eos_id=vocab - 2,
        pad_id=vocab - 2,
    )
    torch.manual_seed(0)
    return Transformer(config).to(device, dtype).eval().requires_grad_(False)


def timed(work: Callable[[], T], device: str) -> tuple[float, T]:
    """Wall-clock seconds of ``work``, the device waited for, and its result."""
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = work()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def matmul_rate(model: Transformer, rows: int) -> float:
    """Floating-point operations per second of the matrix products that a forward over ``rows`` rows makes.

    The same shapes with nothing between them: what the machine can do with this network at most.
    """
    layer: Any = model.layers[0]
    weights = [layer.qkv.weight, layer.attention_out.weight, layer.gate_up.weight, layer.down.weight]
    inputs = [torch.randn(rows, weight.shape[1], device=weight.device, dtype=weight.dtype) for weight in weights]
    outputs = [torch.empty(rows, weight.shape[0], device=weight.device, dtype=weight.dtype) for weight in weights]

    def once() -> None:
        for x, weight, out in zip(inputs, weights, outputs, strict=True):
            torch.mm(x, weight.T, out=out)

    flops = sum(2 * rows * weight.numel() for weight in weights)
    return flops / statistics.median(timed(once, str(model.device))[0] for _ in range(_REPEATS))


def measure(arguments: StepCostOptions) -> dict[str, Any]:
    """Per cache: seconds of each round, the last output, and the matrix-product rate of each round."""
    dtype = getattr(torch, arguments.dtype)
    model = random_model(arguments.width, arguments.layers, arguments.vocab, dtype, arguments.device)
    prompt = torch.randint(0, arguments.vocab - 2, (arguments.prompt,)).tolist()
    rounds: dict[str, list[float]] = {name: [] for name in arguments.caches}
    outputs: dict[str, GenerationOutput] = {}
    rates: dict[str, list[float]] = {name: [] for name in arguments.caches}

    def decode(cache: Cache, gen_length: int) -> GenerationOutput:
        options: dict[str, Any] = {"block_length": arguments.block, "num_transfer_tokens": arguments.tokens}
        return generate(model, [prompt], cache, gen_length=gen_length, **options)

    with torch.inference_mode():
        for name in arguments.caches:  # warm-up
            decode(make_cache(name), arguments.block * 2)
        for _ in range(arguments.rounds):
            for name in arguments.caches:
                work = partial(decode, make_cache(name), arguments.gen)
                seconds, outputs[name] = timed(work, arguments.device)
                rounds[name].append(seconds)
                counts = outputs[name].counts
                rates[name].append(matmul_rate(model, round(counts.rows / counts.forwards)))
    return {"rounds": rounds, "outputs": outputs, "rates": rates}


def report(arguments: StepCostOptions, measured: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per cache.

    ``overhead_ms`` is what a forward takes beyond 1.5 times its share of the operations of decoding without a cache;
    ``share_of_rate`` is the rate of operations reached over that of the matrix products alone at as many rows.
    """
    rounds, outputs = measured["rounds"], measured["outputs"]
    base_rounds = rounds["none"]
    base_flops = outputs["none"].counts.flops
    rows = []
    for name in arguments.caches:
        counts = outputs[name].counts
        ratios = [mine / base for mine, base in zip(rounds[name], base_rounds, strict=True)]
        median, base = statistics.median(rounds[name]), statistics.median(base_rounds)
        share, rate = counts.flops / base_flops, statistics.median(measured["rates"][name])
        rows.append(
            {
                "cache": name,
                "ms_per_forward": 1e3 * median / counts.forwards,
                "ms_min": 1e3 * min(rounds[name]) / counts.forwards,
                "ms_max": 1e3 * max(rounds[name]) / counts.forwards,
                "tokens_per_second": arguments.gen / median,
                "rows_per_forward": counts.rows / counts.forwards,
                "gflop_per_forward": counts.flops / counts.forwards / 1e9,
                "flops_share": share,
                "time_share": statistics.median(ratios),
                "overhead_ms": 1e3 * max(0.0, median - 1.5 * share * base) / counts.forwards,
                "matmul_gflops": rate / 1e9,
                "share_of_rate": counts.flops / median / rate,
                "cache_mib": counts.cache_bytes / 2**20,
            }
        )
    return rows


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table and, as the last line, one JSON object."""
    arguments = read(StepCostOptions, "python -m benchmarks.step_cost", argv)
    if "none" not in arguments.caches:
        arguments.caches.insert(0, "none")
    torch.set_num_threads(arguments.threads)

    measured = measure(arguments)
    rows = report(arguments, measured)
    device = torch.cuda.get_device_name() if torch.device(arguments.device).type == "cuda" else platform.machine()
    print(
        f"{date.today()}, {device}, {arguments.threads} threads, torch {torch.__version__}; width {arguments.width}, "
        f"{arguments.layers} layers, {arguments.dtype}, batch 1, prompt {arguments.prompt}, gen {arguments.gen}, "
        f"block {arguments.block}, {arguments.tokens} tokens per forward, medians of {arguments.rounds} rounds\n"
    )
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    print(json.dumps({"rows": rows, **asdict(arguments)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
