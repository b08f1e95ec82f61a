"""Runs beside each other: one that is there twice, times of one in another, prompts that are not the same."""

from __future__ import annotations

import hashlib
import json

from evaluation.report.check.subject import Problems, Subject
from evaluation.report.ranking import environment
from evaluation.storage.schema import Sample

_FEW = 3
"""Batches of different runs that take the same time to the nanosecond by chance."""
_Clock = tuple[str, int, int, float]


class Twins:
    """What the runs that were seen had."""

    def __init__(self) -> None:
        self.clocks: dict[int, str] = {}
        self.prompts: dict[str, tuple[str, str]] = {}
        self.settings: dict[str, str] = {}

    def of(self, subject: Subject) -> Twin:
        """A run to hold against those before it."""
        return Twin(subject, self)


class Twin:
    """A run beside those before it."""

    def __init__(self, subject: Subject, others: Twins) -> None:
        self.notes: list[str] = []
        self._subject, self._others = subject, others
        self._clocks: set[int] = set()
        self._prompts: list[tuple[str, int, int, str, int | None]] = []

    def see(self, sample: Sample) -> None:
        if sample.seconds:
            clock: _Clock = (sample.task, sample.doc_id, sample.repeat, sample.seconds)
            self._clocks.add(hash(clock))
        if sample.prompt_sha256:
            asked = (sample.task, sample.doc_id, sample.repeat)
            self._prompts.append((*asked, sample.prompt_sha256, sample.prompt_tokens))

    def problems(self) -> Problems:
        name, others = str(self._subject.run.folder), self._others
        same: dict[str, int] = {}
        for clock in self._clocks:
            if (other := others.clocks.setdefault(clock, name)) != name:
                same[other] = same.get(other, 0) + 1
        for other, number in same.items():
            if number >= min(_FEW, len(self._clocks)):
                yield f"{number} questions took the very seconds that they took in {other}"
        run = self._subject.run
        circumstances = [run.clock, environment(run)]  # others may run the same on another machine, or with other code
        config = json.dumps([_without(run.resolved), *circumstances], sort_keys=True)
        if (other := others.settings.setdefault(config, name)) != name:
            yield f"it has the configuration of {other}"
        digests = run.provenance.dataset_sha256
        asked = json.dumps([self._subject.setting, digests, environment(run)], sort_keys=True)
        digest = hashlib.sha256(repr(sorted(self._prompts)).encode()).hexdigest()
        prompts, other = others.prompts.setdefault(asked, (digest, name))
        if prompts != digest:
            yield f"it was asked other questions, or in other prompts, than {other}, which has its settings"


def _without(config: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in config.items() if key != "output_dir"}
