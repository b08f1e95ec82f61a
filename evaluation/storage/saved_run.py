"""Read a run folder: its files as typed records, its answers and scores."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cache_zoo import UsageError
from cache_zoo.errors import require
from evaluation.config import identity
from evaluation.storage.files import CONFIG, RESULTS, SAMPLES, STATUS
from evaluation.storage.plain_yaml import read_yaml
from evaluation.storage.readers import read_json, read_json_lines
from evaluation.storage.schema import MAX_NUMBER, Efficiency, Provenance, Results, Sample, SavedConfig, Status, Summary
from evaluation.storage.validation import parse

_AXES = ("model", "cache", "generation", "dataset")

QuestionId = tuple[str, int, int]
"""Task, row of the dataset, and the number of the answer if it was asked repeatedly."""


@dataclass(frozen=True, slots=True)
class SavedAnswer:
    """The part of a `Sample` that a comparison needs, in little memory.

    Attributes:
        ids: generated tokens; empty for given answers.
        generated: False for given answers.
        batch: number of the batch; None if not recorded.
        seconds: of the batch.
        score: value of the headline metric; None if it is not a number.
    """

    ids: array[int]
    generated: bool
    batch: int | None
    seconds: float | None
    prompt_sha256: str | None
    score: float | None


@dataclass(frozen=True)
class SavedRun:
    """A run folder; each file is read once, on first use.

    Only ``config.yaml`` and ``status.json`` exist before the run is done.

    Raises:
        UsageError: from every property whose file is missing, damaged or out of bounds (`evaluation.storage.schema`).
    """

    folder: Path

    @cached_property
    def status(self) -> Status:
        """The content of ``status.json``."""
        return parse(Status, read_json(self.folder / STATUS), str(self.folder / STATUS))

    @property
    def done(self) -> bool:
        return self.status.status == "done"

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
        """Path of ``config.yaml``, which a run that never started may lack."""
        return self.folder / CONFIG

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The resolved configuration as plain data."""
        return read_yaml(self.config_path)

    @cached_property
    def config(self) -> SavedConfig:
        """The keys of the configuration that are shown."""
        return parse(SavedConfig, self.resolved, str(self.config_path))

    @cached_property
    def options(self) -> dict[str, Any]:
        """The resolved configuration, flat: ``{"cache.name": ...}``."""
        return flatten(self.resolved)

    @property
    def samples_path(self) -> Path:
        """Path of ``samples.jsonl``, or of ``samples.jsonl.gz`` in a compressed run."""
        plain, packed = self.folder / SAMPLES, self.folder / f"{SAMPLES}.gz"
        return packed if os.path.isfile(packed) and not os.path.isfile(plain) else plain

    def read_samples(self) -> Iterator[Sample]:
        """The samples one at a time, in the order of the file.

        Raises:
            UsageError: the file is missing or damaged, or an answer appears twice.
        """
        seen: set[QuestionId] = set()
        for where, row in read_json_lines(self.samples_path):
            sample = parse(Sample, row, where)
            question = question_id(sample)
            require(question not in seen, f"{where}: {question_name(question)} appears twice")
            seen.add(question)
            yield sample

    @cached_property
    def answers(self) -> dict[QuestionId, SavedAnswer]:
        """The answers in order of their questions."""
        metric = self.summary.metric or ""
        answers = {question_id(sample): _answer(sample, metric) for sample in self.read_samples()}
        return dict(sorted(answers.items(), key=lambda item: item[0]))

    def printed_summary(self) -> dict[str, Any]:
        """The summary as it was printed when the run was done, with ``folder`` as given.

        Raises:
            UsageError: results or samples are missing or damaged.
        """
        _ = self.results  # checks every field
        require(self.samples_path.is_file(), f"{self.folder / SAMPLES} is missing")
        return {**read_json(self.folder / RESULTS)["summary"], "status": "done", "folder": str(self.folder)}

    def free_answers(self) -> None:
        """Free the memory of `answers`, which are read again on the next use."""
        vars(self).pop("answers", None)

    @property
    def scores(self) -> dict[tuple[str, int], float] | None:
        """Headline score of each question by task and row; the mean over repeated answers.

        None if there is no score, or if it is not the mean of these.
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
        """Names of model, cache, generation and dataset in the folder's name."""
        axes = dict(zip(_AXES, self.folder.name.split("__"), strict=False))
        return axes | {"cache": axes["cache"].partition("+")[0]} if "cache" in axes else axes

    @cached_property
    def is_baseline(self) -> bool:
        """Whether it is a run that others are compared with (`identity.is_baseline`)."""
        with self._naming_the_file():
            return identity.is_baseline(self.resolved)

    @cached_property
    def setting(self) -> dict[str, Any]:
        """The keys that two runs must share to be compared (`identity.setting`), flat."""
        with self._naming_the_file():
            return identity.setting(self.resolved)

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        """Errors about the configuration name its file."""
        try:
            yield
        except UsageError as error:
            raise UsageError(f"{self.config_path}: {error}") from error

    @property
    def changed_machine(self) -> bool:
        """Whether it was resumed on a different machine."""
        return self.provenance.machine.several

    @cached_property
    def clock(self) -> str:
        """What two runs must also share for their seconds to be compared."""
        machine, device, dtype = self.provenance.machine, self.provenance.device, self.provenance.dtype
        return json.dumps([machine.model_dump(), device, dtype, self.efficiency.processes])


def question_id(sample: Sample) -> QuestionId:
    """The question that a sample answers."""
    return sample.task, sample.doc_id, sample.repeat


def question_name(question: QuestionId) -> str:
    """A question in words."""
    task, row, repeat = question
    return f"{task}, row {row}" + (f", answer {repeat + 1}" if repeat else "")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _answer(sample: Sample, metric: str) -> SavedAnswer:
    value = sample.metrics.get(metric)
    return SavedAnswer(
        ids=array("i", sample.ids),
        generated=sample.tokens_out is not None,
        batch=sample.batch,
        seconds=sample.seconds,
        prompt_sha256=sample.prompt_sha256,
        score=float(value) if isinstance(value, int | float) and abs(value) <= MAX_NUMBER else None,
    )
