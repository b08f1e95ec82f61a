"""What a run cost: answered questions, timed batches, and the figures made of both."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from cache_zoo import UsageError
from evaluation.storage.schema import Efficiency, MemoryShortage
from generation import Counts, GenerationOptions
from generation.options import RULES
from generation.strategies.ranked import RankedStrategy
from generation.strategies.registry import make_strategy

_LEAST_SECONDS = 2.0
"""Of a run whose share of the processor means something."""
WORK = tuple(field.name for field in fields(Counts) if field.name != "cache_bytes")
"""Counted work that adds up over batches."""


@dataclass(frozen=True)
class GeneratedAnswer:
    """A question and the answer generated for it.

    Attributes:
        task: name of the lm-eval task.
        doc_id: row of the dataset.
        repeat: number of the answer to this question, from 0, for tasks that ask for several.
        prompt: the whole prompt.
        prompt_tokens: its length.
        raw, text: the whole generation, and the part that counts (see `evaluation.run.answer_end.TrimmedAnswer`).
        ids: the counted tokens: token ids of ``text``.
        tokens_canvas: positions of the canvas: ``gen_length``, or fewer where the strategy lets it grow.
        forwards: forwards the sequence took part in.
        seconds: of its batch.
        seed: of its random stream.
        batch: number of its batch.
    """

    task: str
    doc_id: int
    repeat: int
    prompt: str
    prompt_tokens: int
    raw: str
    text: str
    ids: list[int]
    tokens_canvas: int
    forwards: int
    seconds: float
    seed: int
    batch: int

    @property
    def tokens(self) -> int:
        """Counted tokens."""
        return len(self.ids)


@dataclass(frozen=True)
class ScoredChoice:
    """A given answer with its length in tokens, its likelihood (`generation.Likelihood`) and its seed."""

    prompt: str
    answer: str
    answer_tokens: int
    log_likelihood: float
    greedy: bool
    seed: int


@dataclass(frozen=True)
class ScoredQuestion:
    """A question whose given answers were scored by log-likelihood; nothing was generated.

    Attributes:
        task, doc_id, repeat: as in `GeneratedAnswer`.
        choices: the given answers, in the order of the task.
        forwards: canvases run for all of them.
        seconds: their share of the time of their batches.
    """

    task: str
    doc_id: int
    repeat: int
    choices: list[ScoredChoice]
    forwards: int
    seconds: float


@dataclass(frozen=True)
class Batch:
    """One timed call of `generation.generate` or `generation.log_likelihoods`, for ``size`` questions.

    ``peak_memory`` is the peak of bytes allocated on the device, weights included; None where this is not measured.
    ``processor_seconds`` are those of all threads of the process; None in batches of older versions.
    """

    size: int
    seconds: float
    counts: Counts
    peak_memory: int | None = None
    processor_seconds: float | None = None


class Measurement:
    """Seconds between entering and leaving, by the clock and of the processor, and the peak memory of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._gpu = device if device.type == "cuda" else None
        self.seconds = self.processor_seconds = 0.0
        self.peak_memory: int | None = None

    def __enter__(self) -> Measurement:
        if self._gpu:
            torch.cuda.reset_peak_memory_stats(self._gpu)
            torch.cuda.synchronize(self._gpu)
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        if self._gpu:
            torch.cuda.synchronize(self._gpu)
        wall, processor = self._start
        self.seconds = time.perf_counter() - wall
        self.processor_seconds = time.process_time() - processor
        if self._gpu:
            self.peak_memory = torch.cuda.max_memory_allocated(self._gpu)


def warm_up_options(options: GenerationOptions) -> GenerationOptions:
    """Options of a generation of at most four forwards that takes the same code paths, the cached one included.

    A strategy with a rule of its own keeps it. Where the strategy makes sense in the whole answer only, another one
    takes its place.
    """
    no_rule: dict[str, Any] = dict.fromkeys(RULES)
    fewer = {
        "num_transfer_tokens": max(1, options.block // 2),
        "steps": None,
        "schedule": "even",
        "alpha": None,
        "alg": "random" if options.alg == "origin" else options.alg,
        **no_rule,
    }
    short: dict[str, Any] = {"gen_length": min(options.gen_length, 2 * options.block), "block_length": options.block}
    if isinstance(make_strategy(options), RankedStrategy):
        short |= fewer
    try:
        made = replace(options, **short)
        make_strategy(made)
    except UsageError:
        return replace(options, **{**short, **fewer}, strategy="vanilla", parameters={})
    return made


def efficiency(
    answers: Sequence[GeneratedAnswer | ScoredQuestion],
    batches: Sequence[Batch],
    processes: int,
    shortages: Sequence[MemoryShortage] = (),
) -> Efficiency:
    """The figures of a run over all processes."""
    generated = [answer for answer in answers if isinstance(answer, GeneratedAnswer)]
    return Efficiency(
        samples=len(answers),
        processes=processes,
        empty_answers=sum(not answer.text.strip() for answer in generated) if generated else None,
        tokens_canvas=sum(answer.tokens_canvas for answer in generated) if generated else None,
        **figures(
            answers=len(answers),
            tokens=sum(answer.tokens for answer in generated) if generated else None,
            forwards=sum(answer.forwards for answer in answers),
            seconds=[batch.seconds for batch in batches],
            work={key: sum(getattr(batch.counts, key) for batch in batches) for key in WORK},
        ),
        processor_seconds=known_sum([batch.processor_seconds for batch in batches]),
        cache_bytes=max((batch.counts.cache_bytes for batch in batches), default=None),
        peak_memory_bytes=max((batch.peak_memory for batch in batches if batch.peak_memory is not None), default=None),
        memory_shortages=list(shortages),
    )


def known_sum(values: Sequence[float | None]) -> float | None:
    """Their sum; None where one is not known, or there is none."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def starvation(found: Efficiency, threads: int) -> str | None:
    """What to say of a run on a CPU whose threads ran for less than half of the time, or None.

    Threads of PyTorch spin while they wait for work, so they use their cores all the time unless others do.
    """
    wall, processor = found.seconds, found.processor_seconds
    if wall is None or processor is None or wall < _LEAST_SECONDS or 2 * processor >= wall * threads:
        return None
    cores = "a core" if threads == 1 else f"{threads} cores"
    return (
        f"the forwards took {wall:.1f} s, in which this process had {processor:.1f} s of processor time of {cores}: "
        "the machine is busy, so the seconds say little; fewer threads (OMP_NUM_THREADS) may be faster"
    )


def figures(
    answers: int, tokens: int | None, forwards: int, seconds: Sequence[float], work: Mapping[str, float | None]
) -> dict[str, Any]:
    """The fields of `Efficiency` that follow from sums over answers and batches; None instead of a division by zero.

    Args:
        answers: number of answers.
        tokens: before the end of the answers; None where nothing was generated.
        forwards: sum over the answers of the forwards each took part in.
        seconds: of each batch.
        work: sums of the counted `WORK` of the batches; None where it was not counted.
    """
    latencies, total = sorted(seconds), sum(seconds)
    return {
        "tokens_out": tokens,
        "seconds": total,
        "tokens_per_second": _ratio(tokens, total),
        "latency_seconds": {
            "mean": _ratio(total, len(latencies)),
            "median": statistics.median(latencies) if latencies else None,
            "p90": latencies[math.ceil(0.9 * len(latencies)) - 1] if latencies else None,
        },
        "nfe": _ratio(forwards, answers),
        "tokens_per_forward": _ratio(tokens, forwards),
        "compute_ratio": _ratio(work["rows"], work["rows_full"]),
        **work,
        "rows_per_token": _ratio(work["rows"], tokens),
        "flops_per_token": _ratio(work["flops"], tokens),
    }


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None
