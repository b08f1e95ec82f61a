"""Scores: the means of those of the questions, and these what the saved texts get."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from evaluation.report.check.subject import Problems, Subject, unequal
from evaluation.storage.saved_run import question_id, question_name
from evaluation.storage.schema import Sample

_SECONDS = 5.0
"""For scoring texts again; a text that takes long is no reason to wait."""
_OUTCOME = "outcome,"
_PASSED = "passed"
_MEANS = ("mean", "nanmean")


@dataclass
class _Metric:
    """A metric of a task over its questions; ``parts`` are values of which lm-eval makes one figure in another way."""

    values: list[float] = field(default_factory=list)
    words: Counter[str] = field(default_factory=Counter)
    absent: int = 0
    parts: int = 0


class Scores:
    """Scores that are not those of the questions."""

    def __init__(self, subject: Subject) -> None:
        self.notes: list[str] = []
        self._subject = subject
        self._metrics: dict[str, dict[str, _Metric]] = {}
        self._questions: Counter[str] = Counter()
        self._wrong: dict[str, list[str]] = defaultdict(list)
        self._seconds, self._left = 0.0, 0

    def see(self, sample: Sample) -> None:
        metrics = self._metrics.setdefault(sample.task, {})
        for key in sample.metrics:
            metrics.setdefault(key, _Metric(absent=self._questions[sample.task]))
        for key, metric in metrics.items():
            _put(metric, sample.metrics.get(key))
        self._questions[sample.task] += 1
        for what in self._rescored(sample):
            self._wrong[what].append(question_name(question_id(sample)))

    def problems(self) -> Problems:
        yield from self._headline()
        for task, metrics in self._subject.results.results.items():
            if self._questions[task]:
                yield from self._means(task, metrics)
            elif not self._subject.scorer:
                yield from self._group(task, metrics)
        for what, where in self._wrong.items():
            yield f"the scores of {len(where)} questions {what}, the first is {where[0]}"
        if self._left:
            self.notes.append(
                f"{self._left} questions were not scored again, for want of time; evaluation.report.rescore does"
            )
        if self._subject.scorer and self._subject.scorer.execute:
            self.notes.append(
                f"scores of {self._subject.task} take running generated code; "
                "cache-zoo rescore RUN allow_code_execution=true does that"
            )

    def _headline(self) -> Problems:
        """That the score which is shown is the one of the task."""
        summary, subject = self._subject.run.summary, self._subject
        if summary.score is None:
            return  # `reasons_not_ranked` says so
        if subject.scorer and summary.metric != subject.scorer.headline:
            yield f"the score of {subject.task} is {subject.scorer.headline}, not {summary.metric}"
        shown = subject.results.results.get(subject.task, {})
        metric, _, chosen = (summary.metric or "").partition(",")
        yield from unequal(
            f"{summary.metric} of {subject.task}", _number(shown.get(f"{metric},{chosen}")), summary.score
        )
        error = _number(shown.get(f"{metric}_stderr,{chosen}"))
        yield from unequal("summary.score_stderr", error, summary.score_stderr)
        asked = subject.setting.get("dataset.n_shot")
        if asked is not None and subject.results.n_shot.get(subject.task, asked) != asked:
            yield f"n-shot of {subject.task} is {subject.results.n_shot[subject.task]}, the configuration has {asked}"

    def _means(self, task: str, results: dict[str, Any]) -> Problems:
        found = self._metrics.get(task, {})
        headline = self._subject.scorer.headline if self._subject.scorer else self._subject.run.summary.metric
        for key, value in results.items():
            if "," not in key or "_stderr," in key:
                continue
            metric = found.get(key, _Metric(absent=self._questions[task]))
            if not self._subject.scorer and (metric.parts or not self._is_mean(task, key)):
                self.notes.append(f"{key} of {task} is no mean of the questions', and was not looked at")
                continue
            if key.startswith(_OUTCOME):
                if isinstance(value, dict) and dict(metric.words) != value:
                    yield f"{key} of {task}: the outcomes are not those of the questions"
            elif metric.values and not (metric.absent or metric.words or metric.parts):
                yield from unequal(f"{key} of {task}", sum(metric.values) / len(metric.values), _number(value))
                yield from self._error(task, key, metric.values, results)
            elif metric.values or (key == headline and _number(value) is not None):
                lacking = metric.absent + metric.parts + metric.words.total()
                yield f"{key} of {task} is no number in {lacking} of {self._questions[task]} questions"

    def _is_mean(self, task: str, key: str) -> bool:
        """Whether lm-eval takes the mean of a metric, as far as the run says."""
        config = self._subject.results.configs.get(task)
        listed = config.get("metric_list") if isinstance(config, dict) else None
        for one in listed if isinstance(listed, list) else []:
            if isinstance(one, dict) and one.get("metric") == key.partition(",")[0]:
                return one.get("aggregation", _usual(one["metric"])) in _MEANS
        return True

    def _error(self, task: str, key: str, values: list[float], results: dict[str, Any]) -> Problems:
        """The standard error, which is lm-eval's own for metrics that are no means."""
        metric, _, chosen = key.partition(",")
        recorded = _number(results.get(f"{metric}_stderr,{chosen}"))
        if self._subject.scorer and len(values) > 1 and recorded is not None:
            error = statistics.stdev(values) / len(values) ** 0.5
            yield from unequal(f"{metric}_stderr,{chosen} of {task}", error, recorded)

    def _group(self, group: str, metrics: dict[str, Any]) -> Problems:
        """A mean over tasks lies between theirs."""
        for key, value in metrics.items():
            number = _number(value)
            if number is None or "," not in key or "_stderr," in key:
                continue
            of_tasks = [
                found
                for task, others in self._subject.results.results.items()
                if self._questions[task] and (found := _number(others.get(key))) is not None
            ]
            if not of_tasks or not min(of_tasks) - 1e-9 <= number <= max(of_tasks) + 1e-9:
                yield f"{key} of {group} is {number}, which is not between those of its tasks"

    def _rescored(self, sample: Sample) -> Iterator[str]:
        """What the text of an answer says against its score, where that takes no running of code."""
        scorer = self._subject.scorer
        if scorer is None or sample.task != self._subject.task or sample.text is None or sample.raw is None:
            return
        if scorer.execute is not None:
            for key, value in sample.metrics.items():
                metric, _, chosen = key.partition(",")
                outcome = sample.metrics.get(f"{_OUTCOME}{chosen}")
                if metric != "outcome" and (value not in (0, 1) or (value == 1) != (outcome == _PASSED)):
                    yield "are not those of their outcomes"
            return
        doc = sample.doc or {}
        if not all(isinstance(doc.get(key), str) for key in scorer.needs):
            yield "have no reference"
            return
        if self._seconds > _SECONDS:
            self._left += 1
            return
        started = time.monotonic()
        found = scorer.score(doc, sample.text, sample.raw, None)
        self._seconds += time.monotonic() - started
        if any(sample.metrics.get(key) != value for key, value in found.items()):
            yield "do not follow from their texts"


def _usual(metric: str) -> str:
    """How lm-eval aggregates a metric of numbers unless told otherwise."""
    return "perplexity" if "perplexity" in metric else "mean"


def _put(metric: _Metric, value: Any) -> None:
    number = _number(value)
    if number is not None:
        metric.values.append(number)
    elif isinstance(value, str):
        metric.words[value.partition(":")[0]] += 1
    elif isinstance(value, list | dict):
        metric.parts += 1
    else:
        metric.absent += 1


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
