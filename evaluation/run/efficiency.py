"""Measuring generations: seconds around each batch, and the work that was counted inside."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from generation import Counts, GenerationOptions


@dataclass(frozen=True)
class Sample:
    """One answered question.

    Attributes:
        task: name of the lm-eval task.
        doc_id: row of the dataset.
        repeat: number of the answer to this question, from 0, where a task asks for several.
        prompt: the whole prompt.
        prompt_tokens: its length.
        raw, text: what was generated, and the part that counts (see `evaluation.run.stopping.Answer`).
        ids: token ids of that part.
        tokens_canvas: positions that were there to be decided, ``gen_length``.
        forwards: forwards the sequence took part in.
        seconds: time of its batch.
        seed: its random stream.
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
        """Tokens of the part that counts."""
        return len(self.ids)


@dataclass(frozen=True)
class Choice:
    """One answer that was given, and what the model makes of it.

    Attributes:
        prompt, answer: the two texts.
        answer_tokens: length of the answer.
        log_likelihood, greedy: see `generation.Likelihood`.
        seed: its random stream.
    """

    prompt: str
    answer: str
    answer_tokens: int
    log_likelihood: float
    greedy: bool
    seed: int


@dataclass(frozen=True)
class Scored:
    """One question whose possible answers were given and scored by their log-likelihood; nothing was generated.

    Attributes:
        task, doc_id, repeat: as in `Sample`.
        choices: the answers, in the order of the task.
        forwards: canvases run for all of them.
        seconds: their share of the time of their batches.
    """

    task: str
    doc_id: int
    repeat: int
    choices: list[Choice]
    forwards: int
    seconds: float


@dataclass(frozen=True)
class Batch:
    """One timed call of `generation.generate` or `generation.log_likelihoods`.

    Attributes:
        size: questions in it.
        seconds: it took.
        counts: its work.
        peak_memory: most bytes that the device held in it, weights included; None where that is not measured.
    """

    size: int
    seconds: float
    counts: Counts
    peak_memory: int | None = None


class Stopwatch:
    """Seconds between entering and leaving, once the device has finished what it was given."""

    def __init__(self, device: torch.device) -> None:
        self._device, self.seconds = device, 0.0

    def __enter__(self) -> Stopwatch:
        self._wait()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._wait()
        self.seconds = time.perf_counter() - self._start

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def warm_up_options(options: GenerationOptions) -> GenerationOptions:
    """A short generation that runs what the real one does: four forwards, the cached path among them."""
    length = min(options.gen_length, 2 * options.block)
    return replace(
        options,
        gen_length=length,
        block_length=options.block,
        num_transfer_tokens=max(1, options.block // 2),
        steps=None,
        threshold=None,
        factor=None,
    )


def efficiency(
    samples: Sequence[Sample | Scored],
    batches: list[Batch],
    processes: int,
    shortages: Sequence[dict[str, int]] = (),
) -> dict[str, Any]:
    """What a run cost, over all processes. What was not measured, or would divide by zero, is None.

    ``tokens_out`` are those before the end of an answer, ``tokens_canvas`` all that there were to decide; loading and
    warm-up are in no number. With several processes ``tokens_per_second`` is that of one. Where nothing was generated,
    because given answers were scored, what is counted in tokens or answers is None. ``samples`` are answers: a task may
    ask for several to a question. ``empty_answers`` have no text that counts. ``memory_shortages`` has each time a
    batch did not fit into memory and was halved; the attempt that failed is in no other number.
    """
    generated = [sample for sample in samples if isinstance(sample, Sample)]
    tokens = sum(sample.tokens for sample in generated) if generated else None
    seconds = sum(batch.seconds for batch in batches)
    forwards = sum(sample.forwards for sample in samples)
    totals = {key: sum(asdict(batch.counts)[key] for batch in batches) for key in asdict(Counts())}
    latencies = [batch.seconds for batch in batches]
    return {
        "samples": len(samples),
        "processes": processes,
        "empty_answers": sum(not sample.text.strip() for sample in generated) if generated else None,
        "tokens_out": tokens,
        "tokens_canvas": sum(sample.tokens_canvas for sample in generated) if generated else None,
        "seconds": seconds,
        "tokens_per_second": _share(tokens, seconds),
        "latency_seconds": {
            "mean": _share(seconds, len(batches)),
            "median": statistics.median(latencies) if latencies else None,
            "p90": _quantile(latencies, 0.9),
        },
        "nfe": _share(forwards, len(samples)),
        "tokens_per_forward": _share(tokens, forwards),
        "compute_ratio": _share(totals["rows"], totals["rows_full"]),
        "forwards": totals["forwards"],
        "rows": totals["rows"],
        "rows_full": totals["rows_full"],
        "rows_per_token": _share(totals["rows"], tokens),
        "keys": totals["keys"],
        "logits": totals["logits"],
        "flops": totals["flops"],
        "flops_per_token": _share(totals["flops"], tokens),
        "cache_bytes": max((batch.counts.cache_bytes for batch in batches), default=None),
        "peak_memory_bytes": max(
            (batch.peak_memory for batch in batches if batch.peak_memory is not None), default=None
        ),
        "memory_shortages": list(shortages),
    }


def _share(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _quantile(values: list[float], share: float) -> float | None:
    """The smallest value that at least ``share`` of them do not exceed."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
