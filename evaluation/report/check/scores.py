"""Check scores: they must be the means over the questions, and follow from the saved texts."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from evaluation.report.check.context import CheckedRun, Problems, compare_figure, number
from evaluation.storage.saved_run import question_id, question_name
from evaluation.storage.schema import Sample
from evaluation.tasks.metric_keys import is_outcome, is_value, stderr_key

_MAX_SCORING_SECONDS = 5.0
_PASSED = "passed"
_MEANS = ("mean", "nanmean")


@dataclass
class _Values:
    """Values of a metric over the questions of a task: numbers, and counted words.

    ``absent`` and ``parts`` count questions without a value, and with one that lm-eval aggregates in its own way.
    """

    numbers: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    absent: int = 0
    parts: int = 0

    def add(self, value: Any) -> None:
        if (known := number(value)) is not None:
            self.numbers.append(known)
        elif isinstance(value, str):
            self.outcomes[value.partition(":")[0]] += 1
        elif isinstance(value, list | dict):
            self.parts += 1
        else:
            self.absent += 1


class ScoreCheck:
    """Problems of scores and their standard errors."""

    def __init__(self, checked: CheckedRun) -> None:
        self.notes: list[str] = []
        self._checked = checked
        self._metrics: dict[str, dict[str, _Values]] = {}
        self._questions: Counter[str] = Counter()
        self._wrong: dict[str, list[str]] = defaultdict(list)
        self._seconds, self._skipped = 0.0, 0

    def add(self, sample: Sample) -> None:
        metrics = self._metrics.setdefault(sample.task, {})
        for key in sample.metrics:
            metrics.setdefault(key, _Values(absent=self._questions[sample.task]))
        for key, values in metrics.items():
            values.add(sample.metrics.get(key))
        self._questions[sample.task] += 1
        for problem in self._check_sample(sample):
            self._wrong[problem].append(question_name(question_id(sample)))

    def problems(self) -> Problems:
        scorer = self._checked.scorer
        yield from self._check_headline()
        for task, results in self._checked.results.results.items():
            if self._questions[task]:
                yield from self._check_task(task, results)
            elif not scorer:
                yield from self._check_group(task, results)
        for problem, questions in self._wrong.items():
            yield f"the scores of {len(questions)} questions {problem}, the first is {questions[0]}"
        if self._skipped:
            self.notes.append(f"there was no time to score {self._skipped} questions again; use cache-zoo rescore")
        if scorer and scorer.execute:
            self.notes.append(
                f"scoring {self._checked.task} runs generated code: cache-zoo rescore RUN allow_code_execution=true"
            )

    def _check_headline(self) -> Problems:
        """The headline score is that of the task."""
        checked, summary = self._checked, self._checked.run.summary
        if summary.score is None:
            return
        if checked.scorer and summary.metric != checked.scorer.headline:
            yield f"the score of {checked.task} is {checked.scorer.headline}, not {summary.metric}"
        results = checked.results.results.get(checked.task, {})
        metric = summary.metric or ""
        yield from compare_figure(f"{summary.metric} of {checked.task}", number(results.get(metric)), summary.score)
        yield from compare_figure("summary.score_stderr", number(results.get(stderr_key(metric))), summary.score_stderr)
        n_shot = checked.run.setting.get("dataset.n_shot")
        if n_shot is not None and checked.results.n_shot.get(checked.task, n_shot) != n_shot:
            recorded = checked.results.n_shot[checked.task]
            yield f"n-shot of {checked.task} is {recorded}, the configuration has {n_shot}"

    def _check_task(self, task: str, results: dict[str, Any]) -> Problems:
        """The metrics of a task are the means over its questions."""
        metrics, scorer = self._metrics.get(task, {}), self._checked.scorer
        headline = scorer.headline if scorer else self._checked.run.summary.metric
        for key, value in results.items():
            if not is_value(key):
                continue
            values = metrics.get(key, _Values(absent=self._questions[task]))
            if not scorer and (values.parts or not self._is_mean(task, key)):
                self.notes.append(f"{key} of {task} is not a mean over the questions and was not checked")
            elif is_outcome(key):
                if isinstance(value, dict) and dict(values.outcomes) != value:
                    yield f"{key} of {task}: the outcomes are not those of the questions"
            elif values.numbers and not (values.absent or values.outcomes or values.parts):
                yield from compare_figure(f"{key} of {task}", statistics.fmean(values.numbers), number(value))
                yield from self._check_stderr(task, key, values.numbers, results)
            elif values.numbers or (key == headline and number(value) is not None):
                lacking = values.absent + values.parts + values.outcomes.total()
                yield f"{key} of {task} is not a number in {lacking} of {self._questions[task]} questions"

    def _is_mean(self, task: str, key: str) -> bool:
        """Whether lm-eval averages a metric, as far as the run records it."""
        config = self._checked.results.configs.get(task)
        entries = config.get("metric_list") if isinstance(config, dict) else None
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and entry.get("metric") == key.partition(",")[0]:
                default = "perplexity" if "perplexity" in entry["metric"] else "mean"
                return entry.get("aggregation", default) in _MEANS
        return True

    def _check_stderr(self, task: str, key: str, values: list[float], results: dict[str, Any]) -> Problems:
        """The standard error of a task with a scorer; lm-eval has others of its own."""
        recorded = number(results.get(stderr_key(key)))
        if self._checked.scorer and len(values) > 1 and recorded is not None:
            error = statistics.stdev(values) / len(values) ** 0.5
            yield from compare_figure(f"{stderr_key(key)} of {task}", error, recorded)

    def _check_group(self, group: str, results: dict[str, Any]) -> Problems:
        """A mean over tasks lies between theirs."""
        for key, value in results.items():
            mean = number(value)
            if mean is None or not is_value(key):
                continue
            tasks = self._checked.results.results.items()
            values = [number(others.get(key)) for task, others in tasks if self._questions[task]]
            known = [value for value in values if value is not None]
            if not known or not min(known) - 1e-9 <= mean <= max(known) + 1e-9:
                yield f"{key} of {group} is {mean}, which is not between those of its tasks"

    def _check_sample(self, sample: Sample) -> Problems:
        """The score of an answer follows from its text, or from its outcome where scoring runs code."""
        scorer = self._checked.scorer
        if scorer is None or sample.task != self._checked.task or sample.text is None or sample.raw is None:
            return
        if scorer.execute is not None:
            for key, value in sample.metrics.items():
                outcome = sample.metrics.get(f"outcome,{key.partition(',')[2]}")
                if not is_outcome(key) and (value not in (0, 1) or (value == 1) != (outcome == _PASSED)):
                    yield "are not those of their outcomes"
            return
        doc = sample.doc or {}
        if not all(isinstance(doc.get(key), str) for key in scorer.needs):
            yield "have no reference"
        elif self._seconds > _MAX_SCORING_SECONDS:
            self._skipped += 1
        else:
            started = time.monotonic()
            scores = scorer.score(doc, sample.text, sample.raw, None)
            self._seconds += time.monotonic() - started
            if any(sample.metrics.get(key) != value for key, value in scores.items()):
                yield "do not follow from their texts"
