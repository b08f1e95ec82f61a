"""A run beside its baseline, question by question: ``cache-zoo compare RUN BASELINE``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cache_zoo.arguments import positional, read
from cache_zoo.errors import DONE, refusing, require, visible
from evaluation.config.identity import BASELINE
from evaluation.report import statistics
from evaluation.report.column_type import MISSING
from evaluation.report.columns import BY_KEY, SAME_WORK
from evaluation.report.ranking import environment, mismatch
from evaluation.report.statistics import Estimate
from evaluation.storage.saved_run import QuestionId, SavedRun, question_name

_MAX_DIFFERENCES = 5  # settings that an error names
_MAX_VALUE = 80  # characters of a setting in an error
_MIN_SECONDS = 1e-9  # below it nothing was measured
_METHOD = " ".join(f"{key}={name}" for key, name in BASELINE.items())


class Comparison:
    """A run against its baseline; made by `compare`.

    A baseline against itself has a speed-up of 1 without an interval, and neither a difference nor a p value.

    Attributes:
        unscored, untimed: why scores and seconds are not compared; None if they are.
        same_work: both recomputed everything and generated the same tokens, so the ratio of their seconds shows the
            noise of the machine and nothing of the cache.
    """

    def __init__(self, run: SavedRun, baseline: SavedRun) -> None:
        self.run, self.baseline = run, baseline
        self._itself = run == baseline
        self._scores = self._paired_scores()
        self._seconds = self._paired_seconds()
        self.unscored = self._scores if isinstance(self._scores, str) else None
        self.untimed = self._seconds if isinstance(self._seconds, str) else None

    @cached_property
    def difference(self) -> Estimate | None:
        """Score of the run minus that of the baseline (`statistics.paired_difference`)."""
        return None if isinstance(self._scores, str) or self._itself else statistics.paired_difference(*self._scores)

    @cached_property
    def p(self) -> float | None:
        """p value of no difference (`statistics.paired_p`), not adjusted."""
        return None if isinstance(self._scores, str) or self._itself else statistics.paired_p(*self._scores)

    @cached_property
    def agreement(self) -> float | None:
        """Mean `statistics.token_agreement` of the questions; None where nothing was generated."""
        shares = [statistics.token_agreement(*pair) for pair in self._answers()]
        return sum(shares) / len(shares) if shares else None

    @cached_property
    def exact_agreement(self) -> float | None:
        """Share of the questions with the same tokens in both runs; None where nothing was generated."""
        same = [ours == theirs for ours, theirs in self._answers()]
        return sum(same) / len(same) if same else None

    @cached_property
    def same_work(self) -> bool:
        ratios = [run.efficiency.compute_ratio for run in (self.run, self.baseline)]
        full = all(ratio is not None and math.isclose(ratio, 1, rel_tol=1e-9) for ratio in ratios)
        return not self._itself and full and self.exact_agreement == 1

    @cached_property
    def speed_up(self) -> Estimate | None:
        """Median seconds of the baseline over those of the run (`statistics.ratio_of_medians`).

        A batch is timed: with ``batch_size=1`` that is a question. None on different machines, where the batches hold
        different questions, and where both runs did the same work.
        """
        if self.same_work or isinstance(self._seconds, str):
            return None
        return Estimate(1.0) if self._itself else statistics.ratio_of_medians(*self._seconds)

    def _answers(self) -> list[tuple[Sequence[int], Sequence[int]]]:
        pairs = zip(self.run.answers.values(), self.baseline.answers.values(), strict=True)
        return [(ours.ids, theirs.ids) for ours, theirs in pairs if ours.generated and theirs.generated]

    def _paired_scores(self) -> tuple[list[float], list[float]] | str:
        """Scores of both runs in the order of the questions, or why they are not compared."""
        metrics = [run.summary.metric for run in (self.run, self.baseline)]
        if metrics[0] != metrics[1]:
            return f"scored by {metrics[0] or 'nothing'}, the baseline by {metrics[1] or 'nothing'}"
        ours, theirs = self.run.scores, self.baseline.scores
        if ours is None or theirs is None:
            return "the questions have no scores to compare"
        return list(ours.values()), list(theirs.values())

    def _paired_seconds(self) -> tuple[list[float], list[float]] | str:
        """Seconds of both runs, batch by batch, or why they are not compared."""
        if self.run.changed_machine or self.baseline.changed_machine:
            return "no speed-up: a run was resumed on a different machine"
        if self.run.clock != self.baseline.clock:
            return "no speed-up: the baseline ran on another machine or number of processes"
        ours, theirs = _batches(self.run), _batches(self.baseline)
        if ours.keys() != theirs.keys():
            return "no speed-up: the batches of the baseline hold other questions"
        seconds = [batches[batch] or 0 for batches in (ours, theirs) for batch in ours]
        if min(seconds) < _MIN_SECONDS:
            return "no speed-up: the seconds were not measured"
        return seconds[: len(ours)], seconds[len(ours) :]


def compare(run: SavedRun, baseline: SavedRun) -> Comparison:
    """Compare a run with its baseline.

    Raises:
        UsageError: they are not comparable: one is not done, the baseline has a cache, drops columns or stores
            otherwise, or settings, environment (`evaluation.report.ranking.environment`), data, questions or prompts
            differ.
    """
    for side in (run, baseline):
        require(side.done, f"{side.folder.name} is {side.status.status}; only runs that are done are compared")
    require(baseline.is_baseline, f"the baseline must have {_METHOD}; {_other_method(baseline)}")
    reason = _obstacle(run, baseline)
    require(reason is None, f"{run.folder.name} can't be compared with {baseline.folder.name}: {reason}")
    return Comparison(run, baseline)


def _other_method(run: SavedRun) -> str:
    """What of a run is not as in a baseline."""
    found = {"cache": run.config.cache.label, "suffix": run.config.suffix.label, "store": run.config.store}
    return f"{run.folder.name} has " + " ".join(f"{key}={it}" for key, it in found.items() if it != BASELINE[key])


def _obstacle(run: SavedRun, baseline: SavedRun) -> str | None:
    """Why two finished runs are not comparable; None if they are."""
    if settings := _differing_settings(run, baseline):
        return f"their settings differ: {settings}"
    if reason := mismatch(run, baseline):
        return reason
    if run.provenance.dataset_sha256 != baseline.provenance.dataset_sha256:
        return "their data differ"
    if missing := set(run.answers) ^ set(baseline.answers):
        counts = f"{count_questions(run)} and {count_questions(baseline)} questions"
        return f"their questions differ: {counts}; only one has {question_name(min(missing))}"
    prompts = {question: answer.prompt_sha256 for question, answer in baseline.answers.items()}
    for question, answer in run.answers.items():
        if answer.prompt_sha256 != prompts[question]:
            return f"the prompt of {question_name(question)} differs"
    return None


def _differing_settings(run: SavedRun, baseline: SavedRun) -> str:
    ours, theirs = run.setting, baseline.setting
    keys = [key for key in {**ours, **theirs} if (key in ours, ours.get(key)) != (key in theirs, theirs.get(key))]
    texts = [f"{key} is {_value(ours, key)} and {_value(theirs, key)}" for key in keys[:_MAX_DIFFERENCES]]
    return ", ".join(texts + [f"and {len(keys) - _MAX_DIFFERENCES} others"] * (len(keys) > _MAX_DIFFERENCES))


def _value(setting: Mapping[str, Any], key: str) -> str:
    text = json.dumps(setting[key]) if key in setting else "missing"
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}..."


def find_baseline(run: SavedRun, runs: Iterable[SavedRun]) -> SavedRun | None:
    """The baseline of ``run`` among ``runs``: done, `SavedRun.is_baseline`, of the same setting; None if there is none.

    Of several, the one with the same code, versions and weights wins, then the same data, the same machine, the same
    parent folder, the first name.
    """

    def distance(other: SavedRun) -> tuple[bool, bool, bool, bool, str]:
        return (
            environment(other) != environment(run),
            other.provenance.dataset_sha256 != run.provenance.dataset_sha256,
            other.clock != run.clock,
            other.folder.parent != run.folder.parent,
            other.folder.as_posix(),
        )

    baselines = [other for other in runs if other.done and other.is_baseline and other.setting == run.setting]
    return run if run in baselines else min(baselines, key=distance, default=None)


def count_questions(run: SavedRun) -> int:
    """Number of different questions that a run answered."""
    return len({(task, row) for task, row, _ in run.answers})


def _batches(run: SavedRun) -> dict[tuple[QuestionId, ...], float | None]:
    """Seconds of each batch, by its questions, in the order of their first."""
    batches: dict[int, list[QuestionId]] = {}
    for number, (question, answer) in enumerate(run.answers.items()):
        batches.setdefault(-1 - number if answer.batch is None else answer.batch, []).append(question)
    return {tuple(batch): run.answers[batch[0]].seconds for batch in batches.values()}


def render(comparison: Comparison) -> str:
    """The comparison as lines of text; missing figures are N/A, with the reason below."""
    ours, theirs = (
        None if run.scores is None else statistics.mean(list(run.scores.values()))
        for run in (comparison.run, comparison.baseline)
    )
    figures = [
        ("score", _figure("score", ours, " %")),
        ("score of baseline", _figure("score", theirs, " %")),
        ("difference", _figure("diff", comparison.difference, " points")),
        ("p (not adjusted)", BY_KEY["p"].write(comparison.p)),
        ("token agreement", _figure("agreement", comparison.agreement, " %")),
        ("same answers", _figure("exact_agreement", comparison.exact_agreement, " %")),
        ("speed-up", SAME_WORK if comparison.same_work else _figure("speedup", comparison.speed_up)),
    ]
    lines = [f"{count_questions(comparison.run)} questions; intervals are 95 %"]
    lines += [f"{name:18}{text}" for name, text in figures]
    lines += [note for note in (comparison.unscored, comparison.untimed) if note]
    return "\n".join(map(visible, lines))


def _figure(key: str, value: float | Estimate | None, unit: str = "") -> str:
    write = BY_KEY[key].write
    if value is None:
        return MISSING
    if isinstance(value, Estimate):
        interval = "" if value.low is None else f" [{write(value.low)}, {write(value.high)}]"
        return f"{write(value.value)}{unit}{interval}"
    return f"{write(value)}{unit}"


@dataclass(frozen=True)
class CompareOptions:
    """Compare a run with its baseline, question by question.

    Attributes:
        run: folder of the run.
        baseline: folder of the run with cache=none suffix=all store=native that is otherwise the same.
    """

    run: Path = positional()
    baseline: Path = positional()


@refusing
def main() -> int:
    """Print the comparison and return the exit status."""
    options = read(CompareOptions, "cache-zoo compare")
    print(render(compare(SavedRun(options.run), SavedRun(options.baseline))))
    return DONE
