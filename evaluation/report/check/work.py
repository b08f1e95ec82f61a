"""Check the figures of a run: they must follow from its samples, and its decoder and model must be able to do them."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property

from evaluation.config.identity import BASELINE
from evaluation.report.check.context import CheckedRun, Problems, compare_figure, summarize
from evaluation.run.efficiency import WORK, figures, known_sum
from evaluation.storage.saved_run import flatten
from evaluation.storage.schema import HEADLINE, BatchWork, Efficiency, Sample
from generation.strategies.registry import make_strategy
from generation.strategies.strategy import Strategy

_LATER = ("query_rows", "kv_rows")
"""Counts that earlier runs lack."""
_TOLERANCE = 1e-6
_MIN_BATCHES = 4
"""Batches from which on equal seconds are no coincidence."""
_MIN_FORWARD_SECONDS = 1e-5
"""Launching the kernels of a forward takes longer."""


@dataclass
class _BatchTotals:
    """Work of a batch, and sums over its samples.

    Attributes:
        work, seconds: of its first sample.
        consistent: all samples agree on work and seconds.
        longest: most forwards of a sample.
        length: of the longest canvas, prompt included.
        rows_full, pairs: rows, and query-key pairs of a layer, without a cache.
        canvas: generated positions, times forwards.
    """

    work: BatchWork
    seconds: float
    consistent: bool = True
    samples: int = 0
    longest: int = 0
    length: int = 0
    rows_full: int = 0
    pairs: int = 0
    canvas: int = 0

    def add(self, sample: Sample) -> None:
        forwards, canvas = int(sample.forwards or 0), sample.tokens_canvas or 0
        length = (sample.prompt_tokens or 0) + canvas
        self.consistent &= (self.work, self.seconds) == (sample.work, sample.seconds)
        self.samples += 1
        self.longest = max(self.longest, forwards)
        self.length = max(self.length, length)
        self.rows_full += forwards * length
        self.pairs += forwards * length**2
        self.canvas += forwards * canvas


@dataclass
class _Totals:
    """Sums over all samples; ``rows`` counts the answers by task and row, ``empty`` the blank ones."""

    samples: int = 0
    repeats: Counter[str] = field(default_factory=Counter)
    rows: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    tokens: int = 0
    canvas: int = 0
    forwards: int = 0
    seconds: float = 0.0
    empty: int = 0


class WorkCheck:
    """Problems of counts, times and work."""

    def __init__(self, checked: CheckedRun) -> None:
        self.notes: list[str] = []
        self._checked, self._totals = checked, _Totals()
        self._batches: dict[int, _BatchTotals] = {}
        self._has_choices = self._has_gaps = False

    def add(self, sample: Sample) -> None:
        totals = self._totals
        totals.samples += 1
        totals.rows[sample.task][sample.doc_id] += 1
        totals.repeats[sample.task] = max(sample.repeat + 1, totals.repeats[sample.task])
        totals.forwards += int(sample.forwards or 0)
        totals.seconds += sample.seconds or 0
        if sample.choices is not None:
            self._has_choices = True
            return
        totals.tokens += sample.tokens_out or 0
        totals.canvas += sample.tokens_canvas or 0
        totals.empty += not (sample.text or "").strip()
        if sample.work is None or sample.batch is None or sample.seconds is None:
            self._has_gaps = True  # reported by `AnswerCheck`
            return
        self._batches.setdefault(sample.batch, _BatchTotals(sample.work, sample.seconds)).add(sample)

    def problems(self) -> Problems:
        summary, efficiency, totals = self._checked.run.summary, self._checked.results.efficiency, self._totals
        yield from compare_figure("samples", totals.samples, efficiency.samples)
        yield from compare_figure("summary.n", sum(map(len, totals.rows.values())), summary.n)
        yield from self._check_rows()
        for key in HEADLINE:
            yield from compare_figure(f"summary.{key}", getattr(efficiency, key), getattr(summary, key))
        if not efficiency.processes or not self._checked.results.provenance.machine.torch_threads:
            yield "the number of processes or threads is missing"
        if self._has_gaps:
            return
        if self._has_choices:
            if not self._checked.run.is_baseline:
                yield "given answers were scored, which a cache does not affect"
            yield from compare_figure("seconds", totals.seconds, efficiency.seconds)
            yield from compare_figure("nfe", totals.forwards / totals.samples, efficiency.nfe)
            return
        yield from self._check_batches()
        yield from self._check_efficiency(efficiency)

    @property
    def _guided(self) -> bool:
        """Whether each forward ran with the prompt and without it."""
        settings = self._checked.settings
        return settings is not None and settings.generation.cfg_scale > 0

    @cached_property
    def _strategy(self) -> Strategy | None:
        """Of the run's settings, if these are known."""
        settings = self._checked.settings
        return None if settings is None else make_strategy(settings.generation)

    @cached_property
    def _uncounted(self) -> set[str]:
        """Counts that the run is older than: no batch has them. Read once all samples were added."""
        works = [batch.work for batch in self._batches.values()]
        return {key for key in _LATER if all(getattr(work, key) is None for work in works)}

    def _check_rows(self) -> Problems:
        """The rows of each task are its first ones, asked equally often."""
        for task, rows in self._totals.rows.items():
            repeats = self._totals.repeats[task]
            if any(number != repeats for number in rows.values()):
                yield f"some questions of {task} have {repeats} answers, others fewer"
            if task == self._checked.task and self._checked.scorer and repeats > 1:
                yield f"{task} asks each question once, not {repeats} times"
            if max(rows) >= len(rows):
                yield f"rows of {task} are missing: there are {len(rows)}, the last is row {max(rows)}"

    def _check_batches(self) -> Problems:
        batch_size = self._checked.run.config.batch_size or 0
        wrong: dict[str, list[str]] = defaultdict(list)
        for number, batch in sorted(self._batches.items()):
            if not batch.consistent:
                yield f"the questions of batch {number} disagree on its work or seconds"
            yield from compare_figure(f"the questions of batch {number}", batch.samples, batch.work.sequences)
            if batch.samples > batch_size:
                wrong[f"there are more than batch_size={batch_size} questions"].append(f"batch {number}")
            for problem in self._check_work(batch):
                wrong[problem].append(f"batch {number}")
        yield from summarize(wrong, "batches")
        batches = self._batches.values()
        if len(batches) >= _MIN_BATCHES and len({batch.seconds for batch in batches}) <= len(batches) / 2:
            yield "half of the batches took exactly as long as another"
        least = -(-sum(batch.samples for batch in batches) // max(batch_size, 1))
        if len(batches) != least and not self._checked.results.efficiency.memory_shortages:
            yield f"there are {len(batches)} batches; batch_size={batch_size} makes {least}"

    def _check_work(self, batch: _BatchTotals) -> Problems:
        """Work that no forward of the model does."""
        work = batch.work
        if any(getattr(work, key) is None for key in (*WORK, "cache_bytes") if key not in self._uncounted):
            yield "a figure of the work is missing"
            return
        named = ("forwards", "rows", "rows_full", "keys", "logits", "flops")
        forwards, rows, full, keys, logits, flops = (float(getattr(work, key)) for key in named)
        contexts, strategy = 2 if self._guided else 1, self._strategy
        resizes, beside = (False, 0) if strategy is None else (strategy.resizes, strategy.rows_beside)
        most_rows = contexts * (batch.rows_full + beside * batch.canvas)
        is_steady = not (resizes or beside)  # every forward has all columns, and each of them once
        if forwards != batch.longest:
            yield "the forwards are not those of the longest answer"
        if full != contexts * batch.rows_full if is_steady else not 0 < full <= most_rows:
            yield "rows_full does not follow from forwards and lengths"
        if not 0 < rows <= full * (1 + _TOLERANCE):
            yield "rows are not between 0 and rows_full"
        if not 0 < logits <= contexts * batch.canvas * (1 + beside):
            yield "logits are not between 0 and the canvas positions"
        if not keys > 0 or not flops > 0:
            yield "keys or flops are 0"
        if work.compute_ratio is not None and abs(work.compute_ratio * full - rows) > full * _TOLERANCE:
            yield "compute_ratio is not rows over rows_full"
        if batch.seconds < forwards * _MIN_FORWARD_SECONDS:
            yield "a forward was faster than any machine"
        parts = [value for key in _LATER if (value := getattr(work, key)) is not None]
        if any(not 0 < part <= full * (1 + _TOLERANCE) for part in parts):
            yield "query_rows or kv_rows are not between 0 and rows_full"
        baseline, ours = self._checked.run.is_baseline, self._checked.results.provenance.cache_package is None
        pruned = self._checked.run.config.suffix.label != BASELINE["suffix"]
        if ours and not pruned and rows < full * (1 - _TOLERANCE) and not work.cache_bytes:
            yield "rows were skipped, but the cache kept nothing"
        if baseline and ({rows, *parts} != {full} or work.cache_bytes):
            yield "the baseline skipped rows or kept a cache"
        if model := self._checked.model:
            layers, width = model.num_layers, model.hidden_size
            wider = 1 + beside  # rows beside the canvas, which also attend to each other
            pairs = float(contexts * layers * batch.pairs) * wider**2
            max_keys = pairs
            if ours:  # caches of other packages may attend in more rows than they run
                max_keys = min(
                    pairs, layers * max(rows, work.query_rows or 0) * batch.length * wider * (1 + _TOLERANCE)
                )
            if not baseline:
                max_keys *= 2  # a cache may look at the weights of rows once more
            if not batch.samples <= keys <= max_keys or (baseline and is_steady and keys != pairs):
                yield "keys do not follow from rows and lengths"
            feed_forward = 3 * width * model.intermediate_size
            attention = width * (sum(model.qkv_sizes) + width)
            others = 4 * keys * width + 2 * logits * model.vocab_size * width
            least = 2 * rows * layers * (feed_forward + attention * baseline) + others
            most = 2 * full * layers * (feed_forward + attention) * (1 if baseline else 2) + others  # and its own work
            if not least * (1 - _TOLERANCE) <= flops <= most * (1 + _TOLERANCE):
                yield "flops do not follow from rows, keys and logits"

    def _check_efficiency(self, efficiency: Efficiency) -> Problems:
        """The figures of the run follow from its questions and batches."""
        totals, batches = self._totals, list(self._batches.values())
        work = {
            key: None if key in self._uncounted else sum(getattr(batch.work, key) or 0 for batch in batches)
            for key in WORK
        }
        peaks = [batch.work.peak_memory_bytes for batch in batches if batch.work.peak_memory_bytes is not None]
        seconds = [batch.seconds for batch in batches]
        expected = {
            **figures(totals.samples, totals.tokens, totals.forwards, seconds, work),
            "tokens_canvas": totals.canvas,
            "cache_bytes": max(batch.work.cache_bytes or 0 for batch in batches),
            "peak_memory_bytes": max(peaks, default=None),
            "processor_seconds": known_sum([batch.work.processor_seconds for batch in batches]),
        }
        if efficiency.empty_answers is not None:
            expected["empty_answers"] = totals.empty
        recorded = flatten(efficiency.model_dump())
        for key, value in flatten(expected).items():
            yield from compare_figure(key, value, recorded[key])
