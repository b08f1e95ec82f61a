"""The run under check, with its settings, task and model; helpers to phrase problems."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer

from cache_zoo import UsageError
from evaluation.config.settings import Settings
from evaluation.run.checkpoint import EMBEDDED
from evaluation.storage.files import RESULTS
from evaluation.storage.saved_run import SavedRun
from evaluation.storage.schema import Results, Sample
from evaluation.tasks.published_data import PublishedRows, published_rows
from evaluation.tasks.scorers import SCORERS, Scorer
from models.config import ModelConfig
from models.loading import read_config

Problems = Iterator[str]
_ROOT = Path(__file__).resolve().parents[3]
_EMBEDDED_FOLDERS = {name: f"models/nano/{name.removeprefix('nano-')}" for name in EMBEDDED}


class SampleCheck(Protocol):
    """A check that reads the samples one by one; ``notes`` say what was not checked."""

    notes: list[str]

    def add(self, sample: Sample) -> None:
        """Check a sample, or collect what `problems` needs of it."""

    def problems(self) -> Problems:
        """The problems, after the last sample."""


class CheckedRun:
    """The finished run under check; tasks that ``datasets`` lacks may have any data.

    Raises:
        UsageError: from all properties, as in `SavedRun`.
    """

    def __init__(self, run: SavedRun, datasets: Mapping[str, str]) -> None:
        self.run, self.datasets = run, datasets

    @property
    def results(self) -> Results:
        return self.run.results

    @cached_property
    def settings(self) -> Settings | None:
        """None if they are invalid, which `check_settings` reports."""
        try:
            return Settings.from_config(self.run.resolved, trusted=False)
        except UsageError:
            return None

    @property
    def task(self) -> str:
        """Name of the dataset."""
        return self.run.config.dataset.name

    @cached_property
    def scorer(self) -> Scorer | None:
        return SCORERS.get(self.task)

    @cached_property
    def published(self) -> PublishedRows | None:
        """The published questions, if they are known and the run claims to have asked them."""
        known, claimed = published_rows(self.task), self.results.provenance.dataset_sha256.get(self.task)
        return known if known and self.datasets.get(self.task) == claimed == known.sha256 else None

    @cached_property
    def embedded(self) -> Path | None:
        """Folder of the embedded model that ran, wherever it was then; None for other models."""
        path, weights = os.path.normpath(self.run.config.model.path or ""), self.results.provenance.model
        for name, folder in _EMBEDDED_FOLDERS.items():
            if path == folder or (weights and weights.weights_sha256 == EMBEDDED[name]):
                return _ROOT / folder
        return None

    @cached_property
    def model(self) -> ModelConfig | None:
        """Configuration of the embedded model."""
        return read_config(self.embedded)[1] if self.embedded else None

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end an answer, so that none contains them."""
        return frozenset(self.results.provenance.end_ids) | self.model_end_ids

    @property
    def model_end_ids(self) -> frozenset[int]:
        """End tokens of the embedded model."""
        return frozenset(self.model.end_ids if self.model else ())

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """Tokenizer of the embedded model."""
        return Tokenizer.from_file(str(self.embedded / "tokenizer.json")) if self.embedded else None


def compare_figure(name: str, expected: float | None, recorded: float | None, where: str = RESULTS) -> Problems:
    """A problem unless the recorded figure is the expected one."""
    if expected == recorded:
        return
    if expected is None or recorded is None or not math.isclose(expected, recorded, rel_tol=1e-6, abs_tol=1e-9):
        yield f"{name}: {where} has {_format(recorded)}, expected {_format(expected)}"


def number(value: Any) -> float | None:
    """A metric as a number; None where it is none."""
    return float(value) if isinstance(value, int | float) else None


def summarize(problems: Mapping[str, list[str]], unit: str = "questions") -> Problems:
    """One problem for each kind, with the number of places where it occurs and the first of these."""
    for problem, places in problems.items():
        yield f"{problem} in {len(places)} {unit}, the first is {places[0]}"


def _format(value: float | None) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
