"""A run folder as it is read: its files, each as a typed record, and what two runs must share to be compared."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cache_zoo import UsageError
from cache_zoo.errors import require
from evaluation.config import identity
from evaluation.storage.files import CONFIG, RESULTS, SAMPLES, STATUS
from evaluation.storage.readers import read_json, read_rows, read_yaml
from evaluation.storage.schema import LARGEST, Config, Efficiency, Provenance, Results, Sample, Status, Summary, parse

BASELINE = "none"
DONE = "done"
_AXES = ("model", "cache", "generation", "dataset")

Question = tuple[str, int, int]
"""Task, row of the dataset, and which of several answers to it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a comparison needs of a `Sample`, in little memory.

    Attributes:
        ids: tokens; empty where answers were given.
        generated: whether it was, token by token.
        batch: its number; None where the run does not say.
        seconds: of the batch.
        score: value of the headline metric; None where it is no number.
    """

    ids: array[int]
    generated: bool
    batch: int | None
    seconds: float | None
    prompt_sha256: str | None
    score: float | None


@dataclass(frozen=True)
class SavedRun:
    """A run in its folder; each file is read once, when it is first needed.

    Raises:
        UsageError: from all properties that read a file that is missing or damaged, or that holds what the file of a
            run can't; all but ``config.yaml`` and ``status.json`` are there only once the run is done.
    """

    folder: Path

    @cached_property
    def status(self) -> Status:
        """The content of ``status.json``."""
        return parse(Status, read_json(self.folder / STATUS), str(self.folder / STATUS))

    @property
    def done(self) -> bool:
        return self.status.status == DONE

    @cached_property
    def results(self) -> Results:
        """The content of ``results.json``."""
        return parse(Results, read_json(self.folder / RESULTS), str(self.folder / RESULTS))

    @property
    def summary(self) -> Summary:
        return self.results.summary

    @property
    def efficiency(self) -> Efficiency:
        return self.results.efficiency

    @property
    def provenance(self) -> Provenance:
        return self.results.provenance

    @property
    def config_path(self) -> Path:
        """Of ``config.yaml``, which a run that was not begun may lack."""
        return self.folder / CONFIG

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The resolved configuration as plain data."""
        return read_yaml(self.config_path)

    @cached_property
    def config(self) -> Config:
        """What of the configuration is shown."""
        return parse(Config, self.resolved, str(self.config_path))

    @cached_property
    def options(self) -> dict[str, Any]:
        """The resolved configuration, flat: ``{"cache.name": ...}``."""
        return flat(self.resolved)

    @property
    def samples_path(self) -> Path:
        """Of ``samples.jsonl`` or, where a run is kept compressed, ``samples.jsonl.gz``."""
        plain, packed = self.folder / SAMPLES, self.folder / f"{SAMPLES}.gz"
        return packed if os.path.isfile(packed) and not os.path.isfile(plain) else plain

    def read_samples(self) -> Iterator[Sample]:
        """The questions with all that was kept of them, in the order of the file, one at a time.

        Raises:
            UsageError: the file is missing or damaged, or an answer is there twice.
        """
        seen: set[Question] = set()
        path = self.samples_path
        for line, row in read_rows(path):
            where = f"{path}, line {line}"
            sample = parse(Sample, row, where)
            question = question_of(sample)
            require(question not in seen, f"{where}: {named(question)} is there twice")
            seen.add(question)
            yield sample

    @cached_property
    def answers(self) -> dict[Question, Answer]:
        """What a comparison needs of the questions, in order."""
        metric = self.summary.metric or ""
        found = {question_of(sample): _answer(sample, metric) for sample in self.read_samples()}
        return dict(sorted(found.items(), key=lambda item: item[0]))

    def forget(self) -> None:
        """Give the memory of `answers` back; they are read again when they are needed again."""
        vars(self).pop("answers", None)

    @property
    def scores(self) -> dict[tuple[str, int], float] | None:
        """Headline score of each question, by task and row: of several answers to it, their mean.

        None where there is none, or where the score is not the mean of them.
        """
        score = self.summary.score
        if score is None:
            return None
        values: dict[tuple[str, int], list[float]] = {}
        for (task, row, _), answer in self.answers.items():
            if answer.score is None:
                return None
            values.setdefault((task, row), []).append(answer.score)
        means = {question: sum(each) / len(each) for question, each in values.items()}
        return means if abs(sum(means.values()) / len(means) - score) < 1e-6 else None

    @property
    def axes(self) -> dict[str, str]:
        """Names of model, cache, generation and dataset, of which the folder is called."""
        return dict(zip(_AXES, self.folder.name.split("__"), strict=False))

    @property
    def is_baseline(self) -> bool:
        return self.config.cache.name == BASELINE and self.config.cache.target is None

    @cached_property
    def setting(self) -> dict[str, Any]:
        """What of the configuration two runs must share for their answers to be compared (`identity.setting`), flat."""
        try:
            return identity.setting(self.resolved)
        except UsageError as error:
            raise UsageError(f"{self.config_path}: {error}") from error

    @property
    def moved(self) -> bool:
        """Whether it went on on another machine than it was begun on."""
        return self.provenance.machine.several

    @cached_property
    def clock(self) -> str:
        """Everything that two runs must share besides for their seconds to be compared."""
        found = self.provenance
        return json.dumps([found.machine.model_dump(), found.device, found.dtype, self.efficiency.processes])


def question_of(sample: Sample) -> Question:
    """What a sample answers."""
    return sample.task, sample.doc_id, sample.repeat


def named(question: Question) -> str:
    """A question in words."""
    task, row, repeat = question
    return f"{task}, row {row}" + (f", answer {repeat + 1}" if repeat else "")


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _answer(sample: Sample, metric: str) -> Answer:
    value = sample.metrics.get(metric)
    return Answer(
        ids=array("i", sample.ids),
        generated=sample.tokens_out is not None,
        batch=sample.batch,
        seconds=sample.seconds,
        prompt_sha256=sample.prompt_sha256,
        score=float(value) if isinstance(value, int | float) and abs(value) <= LARGEST else None,
    )
