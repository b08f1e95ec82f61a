"""Runs beside the run without a cache that is otherwise the same: ``cache-zoo compare RUN BASELINE``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cache_zoo import UsageError
from cache_zoo.arguments import positional, read
from cache_zoo.errors import DONE, refusing, require, visible
from evaluation.config.identity import BASELINE
from evaluation.report import statistics
from evaluation.report.comparable import apart, shared
from evaluation.report.statistics import Estimate
from evaluation.storage.saved_run import QuestionId, SavedRun, question_name

SAME_WORK = "same work"
"""In place of a speed-up, see `Comparison.same_work`."""
_MOST_KEYS = 5  # that a message names
_LONGEST_VALUE = 80  # letters of a setting in a message
_SHORTEST = 1e-9  # seconds that a clock can tell from none


class Comparison:
    """A run against a baseline that was asked the same; made by `compare`.

    Attributes:
        unscored, untimed: why the scores and the seconds can't be compared; None where they can.
        same_work: both ran everything and came to the same tokens, so that a ratio of their seconds says how steady the
            machine was, and nothing of the cache.
    """

    def __init__(self, run: SavedRun, baseline: SavedRun) -> None:
        self.run, self.baseline = run, baseline
        self._scores = self._paired_scores()
        self._seconds = self._paired_seconds()
        self.unscored = self._scores if isinstance(self._scores, str) else None
        self.untimed = self._seconds if isinstance(self._seconds, str) else None

    @cached_property
    def difference(self) -> Estimate | None:
        """Score of the run minus that of the baseline (`statistics.paired_difference`)."""
        return None if isinstance(self._scores, str) else statistics.paired_difference(*self._scores)

    @cached_property
    def p(self) -> float | None:
        """Of no difference (`statistics.paired_p`), not adjusted."""
        return None if isinstance(self._scores, str) else statistics.paired_p(*self._scores)

    @cached_property
    def agreement(self) -> float | None:
        """Mean over the questions of `statistics.token_agreement`; None where nothing was generated."""
        shares = [statistics.token_agreement(*pair) for pair in self._answers()]
        return sum(shares) / len(shares) if shares else None

    @cached_property
    def exact_agreement(self) -> float | None:
        """Share of the questions whose answers are the same token for token; None where nothing was generated."""
        same = [ours == theirs for ours, theirs in self._answers()]
        return sum(same) / len(same) if same else None

    @cached_property
    def same_work(self) -> bool:
        ratios = [one.efficiency.compute_ratio for one in (self.run, self.baseline)]
        full = all(ratio is not None and math.isclose(ratio, 1, rel_tol=1e-9) for ratio in ratios)
        return self.run != self.baseline and full and self.exact_agreement == 1

    @cached_property
    def speed_up(self) -> Estimate | None:
        """Median seconds of the baseline over those of the run (`statistics.ratio_of_medians`).

        What was timed is a batch: a single question with ``batch_size=1``. None on different machines, where the
        batches hold different questions, and where both runs did the same work.
        """
        return None if self.same_work or isinstance(self._seconds, str) else statistics.ratio_of_medians(*self._seconds)

    def _answers(self) -> list[tuple[Sequence[int], Sequence[int]]]:
        pairs = zip(self.run.answers.values(), self.baseline.answers.values(), strict=True)
        return [(ours.ids, theirs.ids) for ours, theirs in pairs if ours.generated and theirs.generated]

    def _paired_scores(self) -> tuple[list[float], list[float]] | str:
        """Scores of both runs in the order of the questions, or why they are not compared."""
        metrics = [one.summary.metric for one in (self.run, self.baseline)]
        if metrics[0] != metrics[1]:
            return f"scored by {metrics[0] or 'nothing'}, the baseline by {metrics[1] or 'nothing'}"
        ours, theirs = self.run.scores, self.baseline.scores
        if ours is None or theirs is None:
            return "there is no score of each question to compare"
        return list(ours.values()), list(theirs.values())

    def _paired_seconds(self) -> tuple[list[float], list[float]] | str:
        """Seconds of both runs, batch by batch, or why they are not compared."""
        if self.run.changed_machine or self.baseline.changed_machine:
            return "no speed-up: the machine was not the same throughout"
        if self.run.clock != self.baseline.clock:
            return "no speed-up: the baseline ran on another machine or number of processes"
        ours, theirs = _batches(self.run), _batches(self.baseline)
        if ours.keys() != theirs.keys():
            return "no speed-up: the batches of the baseline hold other questions"
        seconds = [one[batch] or 0 for one in (ours, theirs) for batch in ours]
        if min(seconds) < _SHORTEST:
            return "no speed-up: the seconds were not measured"
        return seconds[: len(ours)], seconds[len(ours) :]


def compare(run: SavedRun, baseline: SavedRun) -> Comparison:
    """A run beside the run without a cache that was asked the same in the same setting.

    Raises:
        UsageError: they can't be compared, and why: not done, not without a cache, another setting, other code,
            versions or weights (`evaluation.report.comparable`), other data, other questions or other prompts.
    """
    for one in (run, baseline):
        require(one.done, f"{one.folder.name} is {one.status.status}; a comparison takes runs that are done")
    require(
        baseline.is_baseline,
        f"runs are compared with one of cache={BASELINE}; {baseline.folder.name} has another cache",
    )
    differing = [key for key in {**run.setting, **baseline.setting} if _unlike(key, run.setting, baseline.setting)]
    require(not differing, _differing(run, baseline, differing))
    reason = apart(run, baseline)
    require(reason is None, _named(run, baseline, str(reason)))
    digests = [one.provenance.dataset_sha256 for one in (run, baseline)]
    require(digests[0] == digests[1], _named(run, baseline, "the data that were asked are not the same"))
    if missing := set(run.answers) ^ set(baseline.answers):
        counts = f"{questions(run)} and {questions(baseline)} questions"
        raise UsageError(
            _named(run, baseline, f"they were not asked the same: {counts}; only one has {question_name(min(missing))}")
        )
    for question, answer in run.answers.items():
        same = answer.prompt_sha256 == baseline.answers[question].prompt_sha256
        require(same, _named(run, baseline, f"{question_name(question)} was asked in another prompt"))
    return Comparison(run, baseline)


def find_baseline(run: SavedRun, runs: Iterable[SavedRun]) -> SavedRun | None:
    """The run of ``runs`` to compare ``run`` with, if there is one: done, without a cache, of the same setting.

    Of several the one of the same code, versions and weights goes first, then with the same data, the same machine,
    the same parent folder, the name.
    """

    def distance(one: SavedRun) -> tuple[bool, bool, bool, bool, str]:
        data = [each.provenance.dataset_sha256 for each in (one, run)]
        elsewhere = one.folder.parent != run.folder.parent
        code = shared(one) != shared(run)
        return code, data[0] != data[1], one.clock != run.clock, elsewhere, one.folder.as_posix()

    alike = [one for one in runs if one.done and one.is_baseline and one.setting == run.setting]
    if run in alike:
        return run
    return min(alike, key=distance, default=None)


def questions(run: SavedRun) -> int:
    """How many questions a run answered, however often."""
    return len({(task, row) for task, row, _ in run.answers})


def _batches(run: SavedRun) -> dict[tuple[QuestionId, ...], float | None]:
    """Seconds of each batch, by the questions in it, in the order of the first of them."""
    batches: dict[int, list[QuestionId]] = {}
    for number, (question, answer) in enumerate(run.answers.items()):
        batches.setdefault(-1 - number if answer.batch is None else answer.batch, []).append(question)
    return {tuple(batch): run.answers[batch[0]].seconds for batch in batches.values()}


def _unlike(key: str, ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return (key in ours, ours.get(key)) != (key in theirs, theirs.get(key))


def _differing(run: SavedRun, baseline: SavedRun, keys: list[str]) -> str:
    values = [f"{key} is {_value(run, key)} and {_value(baseline, key)}" for key in keys[:_MOST_KEYS]]
    values += [f"and {len(keys) - _MOST_KEYS} others"] * (len(keys) > _MOST_KEYS)
    return _named(run, baseline, f"their settings differ: {', '.join(values)}")


def _value(run: SavedRun, key: str) -> str:
    text = json.dumps(run.setting[key]) if key in run.setting else "not there"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _named(run: SavedRun, baseline: SavedRun, reason: str) -> str:
    return f"{run.folder.name} can't be compared with {baseline.folder.name}: {reason}"


def render(comparison: Comparison) -> str:
    """The comparison as lines of text; what can't be had is N/A, and why."""
    rows = [
        ("score", _shown(_mean(comparison.run), 100, ".1f", " %")),
        (f"score of {BASELINE}", _shown(_mean(comparison.baseline), 100, ".1f", " %")),
        ("difference", _shown(comparison.difference, 100, "+.1f", " points")),
        ("p (not adjusted)", "N/A" if comparison.p is None else f"{comparison.p:.3g}"),
        ("token agreement", _share(comparison.agreement)),
        ("same answers", _share(comparison.exact_agreement)),
        ("speed-up", SAME_WORK if comparison.same_work else _shown(comparison.speed_up, 1, ".2f", "")),
    ]
    lines = [f"{questions(comparison.run)} questions; intervals are 95 %"]
    lines += [f"{name:18}{value}" for name, value in rows]
    lines += [note for note in (comparison.unscored, comparison.untimed) if note]
    return "\n".join(map(visible, lines))


def _mean(run: SavedRun) -> Estimate | None:
    return None if run.scores is None else statistics.mean(list(run.scores.values()))


def _share(value: float | None) -> str:
    return "N/A" if value is None else f"{100 * value:.1f} %"


def _shown(estimate: Estimate | None, scale: float, form: str, unit: str) -> str:
    if estimate is None:
        return "N/A"
    shown = f"{scale * estimate.value:{form}}{unit}"
    if estimate.low is None or estimate.high is None:
        return shown
    return f"{shown} [{scale * estimate.low:{form}}, {scale * estimate.high:{form}}]"


@dataclass(frozen=True)
class CompareOptions:
    """Compare a run with its baseline, question by question.

    Attributes:
        run: folder of the run.
        baseline: folder of the run with cache=none that is otherwise the same.
    """

    run: Path = positional()
    baseline: Path = positional()


@refusing
def main() -> int:
    """Print the comparison and return the exit status."""
    options = read(CompareOptions, "cache-zoo compare")
    print(render(compare(SavedRun(options.run), SavedRun(options.baseline))))
    return DONE
