"""The figures of a run against those of its questions, and those against what its decoder can have done."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from evaluation.report.check.subject import Problems, Subject, several, unequal
from evaluation.run.efficiency import WORK, totals
from evaluation.storage.saved_run import flatten
from evaluation.storage.schema import BatchWork, Efficiency, Sample, Summary

_SUMMARY = tuple(key for key in Summary.model_fields if key in Efficiency.model_fields)
_ROUNDING = 1e-6
_FEW = 4
"""Batches of which two may take the same time by chance."""
_SHORTEST = 1e-5
"""Seconds of a forward; starting its kernels takes longer."""


@dataclass
class _Batch:
    """What the questions of a batch have in common, and the sums over them.

    Attributes:
        work, seconds: as the first of its questions has them.
        agree: whether all have the same.
        longest: most forwards of a question.
        length: of the longest canvas.
        rows_full, pairs: rows, and query-key pairs of a layer, without a cache.
    """

    work: BatchWork
    seconds: float
    agree: bool = True
    questions: int = 0
    longest: int = 0
    length: int = 0
    rows_full: int = 0
    pairs: int = 0
    canvas: int = 0


@dataclass
class _Sums:
    questions: int = 0
    repeats: Counter[str] = field(default_factory=Counter)
    rows: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    tokens: int = 0
    canvas: int = 0
    forwards: int = 0
    seconds: float = 0.0
    empty: int = 0


class Counts:
    """Totals, and work that no decoder does."""

    def __init__(self, subject: Subject) -> None:
        self.notes: list[str] = []
        self._subject, self._sums = subject, _Sums()
        self._batches: dict[int, _Batch] = {}
        self._given = self._whole = False

    def see(self, sample: Sample) -> None:
        sums = self._sums
        sums.questions += 1
        sums.rows[sample.task][sample.doc_id] += 1
        sums.repeats[sample.task] = max(sample.repeat + 1, sums.repeats[sample.task])
        sums.forwards += int(sample.forwards or 0)
        sums.seconds += sample.seconds or 0
        if sample.choices is not None:
            self._given = True
            return
        sums.tokens += sample.tokens_out or 0
        sums.canvas += sample.tokens_canvas or 0
        sums.empty += not (sample.text or "").strip()
        if sample.work is None or sample.batch is None or sample.seconds is None:
            self._whole = True  # `Answers` says so
            return
        batch = self._batches.setdefault(sample.batch, _Batch(sample.work, sample.seconds))
        batch.agree &= (batch.work, batch.seconds) == (sample.work, sample.seconds)
        forwards, length = int(sample.forwards or 0), (sample.prompt_tokens or 0) + (sample.tokens_canvas or 0)
        batch.questions += 1
        batch.longest = max(batch.longest, forwards)
        batch.length = max(batch.length, length)
        batch.rows_full += forwards * length
        batch.pairs += forwards * length**2
        batch.canvas += forwards * (sample.tokens_canvas or 0)

    def problems(self) -> Problems:
        summary, measured = self._subject.run.summary, self._subject.results.efficiency
        yield from unequal("samples", self._sums.questions, measured.samples)
        yield from unequal("summary.n", sum(map(len, self._sums.rows.values())), summary.n)
        yield from self._of_rows()
        for key in _SUMMARY:
            yield from unequal(f"summary.{key}", getattr(measured, key), getattr(summary, key))
        if not measured.processes or not self._subject.results.provenance.machine.torch_threads:
            yield "it was run by no process or no thread"
        if self._whole:
            return
        if self._given:
            yield from self._of_given(measured)
            return
        yield from self._of_batches()
        for key, value in self._totals().items():
            yield from unequal(key, value, _at(measured, key))

    def _of_rows(self) -> Problems:
        """That the rows of each task are the first ones, and that each was asked as often as the others."""
        for task, rows in self._sums.rows.items():
            times = self._sums.repeats[task]
            if any(number != times for number in rows.values()):
                yield f"some questions of {task} have {times} answers, and others fewer"
            if task == self._subject.task and self._subject.scorer and times > 1:
                yield f"{task} asks each question once, not {times} times"
            if max(rows) >= len(rows):
                yield f"rows of {task} are missing: there are {len(rows)}, the last is row {max(rows)}"

    def _of_given(self, measured: Efficiency) -> Problems:
        """Given answers were scored: nothing was generated that could be counted."""
        if not self._subject.run.is_baseline:
            yield "answers were given and scored, where a cache has nothing to do"
        yield from unequal("seconds", self._sums.seconds, measured.seconds)
        yield from unequal("nfe", self._sums.forwards / self._sums.questions, measured.nfe)

    def _of_batches(self) -> Problems:
        most = self._subject.run.config.batch_size or 0
        wrong: dict[str, list[str]] = {}
        for number, batch in sorted(self._batches.items()):
            if not batch.agree:
                yield f"the questions of batch {number} do not agree about its work or its seconds"
            yield from unequal(f"the questions of batch {number}", batch.questions, batch.work.sequences)
            if batch.questions > most:
                wrong.setdefault(f"more questions than batch_size={most} are in a batch", []).append(f"batch {number}")
            for what in self._impossible(batch):
                wrong.setdefault(what, []).append(f"batch {number}")
        for what, where in wrong.items():
            yield from several(where, what)
        if (
            len(self._batches) >= _FEW
            and len({one.seconds for one in self._batches.values()}) <= len(self._batches) / 2
        ):
            yield "half of the batches took the very seconds of another one"
        least = -(-sum(batch.questions for batch in self._batches.values()) // max(most, 1))
        if len(self._batches) != least and not self._subject.results.efficiency.memory_shortages:
            yield f"there are {len(self._batches)} batches; batch_size={most} makes {least}"

    def _impossible(self, batch: _Batch) -> Problems:
        """What no forward of the model can have done."""
        work = batch.work
        if any(getattr(work, key) is None for key in (*WORK, "cache_bytes")):
            yield "a figure of the work is missing"
            return
        numbers = {key: float(getattr(work, key)) for key in WORK}
        rows, full, keys, logits = (numbers[key] for key in ("rows", "rows_full", "keys", "logits"))
        if numbers["forwards"] != batch.longest:
            yield "the batch has other forwards than its longest answer"
        if full != batch.rows_full:
            yield "rows_full is not that of the forwards and the lengths"
        if not 0 < rows <= full * (1 + _ROUNDING):
            yield "rows are not between 0 and rows_full"
        if not 0 < logits <= batch.canvas:
            yield "logits are not between 0 and the positions that there were to decide"
        if not keys > 0 or not numbers["flops"] > 0:
            yield "keys or flops are 0"
        if work.compute_ratio is not None and abs(work.compute_ratio * full - rows) > full * _ROUNDING:
            yield "compute_ratio is not rows over rows_full"
        if batch.seconds < numbers["forwards"] * _SHORTEST:
            yield "a forward took less time than any machine needs"
        plain, ours = self._subject.run.is_baseline, self._subject.results.provenance.cache_package is None
        if ours and rows < full * (1 - _ROUNDING) and not work.cache_bytes:
            yield "rows were left out, and nothing was kept in their place"
        if plain and (rows != full or work.cache_bytes):
            yield "rows were left out, or something was kept, without a cache"
        if model := self._subject.model:
            layers, width = model.num_layers, model.hidden_size
            most_keys = float(layers * batch.pairs)
            if ours:  # others may attend in more rows than they run
                most_keys = min(most_keys, layers * rows * batch.length * (1 + _ROUNDING))
            if not batch.questions <= keys <= most_keys or (plain and keys != batch.pairs * layers):
                yield "keys are not those of the rows and the lengths"
            feed_forward = 3 * width * model.intermediate_size
            attention = width * (sum(model.qkv_sizes) + width)
            others = 4 * keys * width + 2 * logits * model.vocab_size * width
            least = 2 * rows * layers * (feed_forward + attention * plain) + others
            most = 2 * full * layers * (feed_forward + attention) + others
            if not least * (1 - _ROUNDING) <= numbers["flops"] <= most * (1 + _ROUNDING):
                yield "flops are not those of the rows, the keys and the logits"

    def _totals(self) -> dict[str, float | None]:
        """Figures of the efficiency block, from the questions and the batches."""
        sums, batches = self._sums, list(self._batches.values())
        work = {key: sum(getattr(batch.work, key) or 0 for batch in batches) for key in WORK}
        peaks = [batch.work.peak_memory_bytes for batch in batches if batch.work.peak_memory_bytes is not None]
        seconds = [batch.seconds for batch in batches]
        return {
            **flatten(totals(sums.questions, sums.tokens, sums.forwards, seconds, work)),
            "tokens_canvas": sums.canvas,
            "cache_bytes": max(batch.work.cache_bytes or 0 for batch in batches),
            "peak_memory_bytes": max(peaks, default=None),
            **({} if self._subject.results.efficiency.empty_answers is None else {"empty_answers": sums.empty}),
        }


def _at(measured: Efficiency, path: str) -> float | None:
    found = measured
    for key in path.split("."):
        found = getattr(found, key)
    return found  # type: ignore[return-value]
