"""The run that is checked, with what is known of its settings, its tasks and its model."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer

from cache_zoo import UsageError
from evaluation.config import identity
from evaluation.config.settings import Settings
from evaluation.run.checkpoint import EMBEDDED
from evaluation.storage.files import RESULTS
from evaluation.storage.saved_run import SavedRun
from evaluation.storage.schema import Results, Sample
from evaluation.tasks.published import PublishedRows, published_rows
from evaluation.tasks.scorers import SCORERS, Scorer
from models.config import ModelConfig
from models.loading import read_config

Problems = Iterator[str]
_ROOT = Path(__file__).resolve().parents[3]
_EMBEDDED = {name: f"models/nano/{name.removeprefix('nano-')}" for name in EMBEDDED}


class Watch(Protocol):
    """A part of the check that sees the questions one by one.

    Attributes:
        notes: what was not looked at.
    """

    notes: list[str]

    def see(self, sample: Sample) -> None:
        """Take a question into account."""

    def problems(self) -> Problems:
        """What is wrong, once all of them were seen."""


class Subject:
    """A run that is checked.

    Args:
        run: that is done.
        datasets: digest of the rows by task; tasks that are not in it may have any.

    Raises:
        UsageError: from all properties, as `SavedRun`.
    """

    def __init__(self, run: SavedRun, datasets: Mapping[str, str]) -> None:
        self.run, self.datasets = run, datasets

    @property
    def results(self) -> Results:
        return self.run.results

    @cached_property
    def settings(self) -> Settings | None:
        """None where they can't be used, which `evaluation.report.check.origin` says."""
        try:
            return Settings.from_config(self.run.resolved, trusted=False)
        except UsageError:
            return None

    @cached_property
    def setting(self) -> dict[str, Any]:
        """What two runs must share (see `evaluation.config.identity.setting`)."""
        return identity.setting(self.run.resolved)

    @cached_property
    def task(self) -> str:
        """Name of the dataset."""
        return self.run.config.dataset.name or ""

    @cached_property
    def scorer(self) -> Scorer | None:
        return SCORERS.get(self.task)

    @cached_property
    def published(self) -> PublishedRows | None:
        """The published questions, where the run says that it asked them, and they are known."""
        found, claimed = published_rows(self.task), self.results.provenance.dataset_sha256.get(self.task)
        known = found is not None and self.datasets.get(self.task) == claimed == found.sha256
        return found if known else None

    @cached_property
    def embedded(self) -> Path | None:
        """Folder of the embedded model that was run, wherever it lay; None where it was another one."""
        path, weights = os.path.normpath(self.run.config.model.path or ""), self.results.provenance.model
        for name, folder in _EMBEDDED.items():
            if path == folder or (weights and weights.weights_sha256 == EMBEDDED[name]):
                return _ROOT / folder
        return None

    @cached_property
    def model(self) -> ModelConfig | None:
        """Sizes of the embedded model."""
        return read_config(self.embedded)[1] if self.embedded else None

    @cached_property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer, and so are in none."""
        of_model = (self.model.eos_id, self.model.eot_id) if self.model else ()
        return frozenset([*self.results.provenance.end_ids, *(one for one in of_model if one is not None)])

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """Of the embedded model."""
        return Tokenizer.from_file(str(self.embedded / "tokenizer.json")) if self.embedded else None


def unequal(what: str, counted: float | None, recorded: float | None, where: str = RESULTS) -> Problems:
    """A sentence unless what was recorded is what its parts make."""
    same = counted == recorded or (
        counted is not None and recorded is not None and math.isclose(counted, recorded, rel_tol=1e-6, abs_tol=1e-9)
    )
    if not same:
        yield f"{what}: {where} says {_shown(recorded)}, its parts make {_shown(counted)}"


def several(wrong: list[str], what: str) -> Problems:
    """A sentence that says how many questions are wrong, and which is the first."""
    if wrong:
        yield f"{what} in {len(wrong)} questions, the first is {wrong[0]}"


def _shown(value: float | None) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
