"""Check a run against the others: repeated runs, copied times, different prompts."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

from evaluation.config import identity
from evaluation.report.check.context import CheckedRun, Problems
from evaluation.report.ranking import environment
from evaluation.storage.saved_run import QuestionId, question_id
from evaluation.storage.schema import Sample

_MIN_EQUAL_TIMES = 3
"""Equal times, to the nanosecond, from which on they are no coincidence."""


class OtherRuns:
    """The runs that were checked before: hashes of question and seconds, prompts by settings, and run names."""

    def __init__(self) -> None:
        self.times: dict[int, str] = {}
        self.prompts: dict[str, tuple[str, str]] = {}
        self.runs: dict[str, str] = {}


class OtherRunsCheck:
    """Problems of a run beside those that were checked before."""

    def __init__(self, checked: CheckedRun, others: OtherRuns) -> None:
        self.notes: list[str] = []
        self._run, self._others = checked.run, others
        self._times: set[int] = set()
        self._prompts: list[tuple[QuestionId, str, int | None]] = []

    def add(self, sample: Sample) -> None:
        question = question_id(sample)
        if sample.seconds:
            self._times.add(hash((question, sample.seconds)))
        if sample.prompt_sha256:
            self._prompts.append((question, sample.prompt_sha256, sample.prompt_tokens))

    def problems(self) -> Problems:
        run, others, folder = self._run, self._others, str(self._run.folder)
        equal = Counter(others.times.setdefault(time, folder) for time in self._times)
        for other, number in equal.items():
            if other != folder and number >= min(_MIN_EQUAL_TIMES, len(self._times)):
                yield f"{number} questions took exactly as long as in {other}"
        # the same run on another machine or with other code is welcome
        key = json.dumps([identity.run_name(run.resolved), run.clock, environment(run)], sort_keys=True)
        if (other := others.runs.setdefault(key, folder)) != folder:
            yield f"it has the configuration of {other}"
        settings = json.dumps([run.setting, run.provenance.dataset_sha256, environment(run)], sort_keys=True)
        digest = hashlib.sha256(repr(sorted(self._prompts)).encode()).hexdigest()
        prompts, other = others.prompts.setdefault(settings, (digest, folder))
        if prompts != digest:
            yield f"its questions or prompts are not those of {other}, which has the same settings"
