"""Select the question of a run folder that is to be traced."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cache_zoo.errors import nearest, require
from evaluation.config.settings import Settings
from evaluation.storage.saved_run import SavedRun
from evaluation.storage.schema import Sample
from evaluation.trace.untrusted_settings import read_settings

RowId = tuple[str, int]
"""Task and row of the dataset."""
_MAX_ROW_DIGITS = 15


@dataclass(frozen=True)
class TracedQuestion:
    """A question of a run, with its sample and all ``rows`` of the run; the settings have the requested device."""

    run: SavedRun
    settings: Settings
    sample: Sample
    rows: list[RowId]

    @property
    def row(self) -> RowId:
        return self.sample.task, self.sample.doc_id

    def __str__(self) -> str:
        return f"{self.sample.task} row {self.sample.doc_id}"


def select_question(
    folder: Path, sample: str | None, device: str | None = None, settings: Settings | None = None
) -> TracedQuestion:
    """A question of a finished run.

    Args:
        folder: of the run.
        sample: its row, or ``TASK:ROW``; None: the first.
        device: to decode on; None: that of the run.
        settings: of the run, if this program made it; None reads them from the untrusted folder, importing nothing
            that they name.

    Raises:
        UsageError: not a finished run, no such question, nothing was generated, code of the run's own, or no such
            device.
    """
    require(os.path.isdir(folder), f"there is no run folder {folder}{_similar_folder(folder)}")
    run = SavedRun(folder)
    require(run.done, f"{folder.name} is {run.status.status}; a trace takes a run that is done")
    _ = run.results  # a trace does not need them, but must not show a damaged run
    found, rows = _find(run, sample)
    require(
        found.choices is None,
        f"{folder.name} scored given answers and generated nothing; give a run of a task that generates text",
    )
    settings = settings or read_settings(run, device)
    require(
        not settings.model.device.startswith("cuda") or torch.cuda.is_available(),
        f"{folder.name} ran on {settings.model.device}, which this machine does not have; give device=cpu",
    )
    return TracedQuestion(run, settings, found, rows)


def require_same_prompt(questions: Sequence[TracedQuestion]) -> None:
    """Raise `UsageError` unless all are the same question in the same prompt."""
    first = questions[0]
    for other in questions[1:]:
        same_row = first.row == other.row
        require(
            same_row and first.sample.prompt_sha256 == other.sample.prompt_sha256,
            f"{first.run.folder.name} and {other.run.folder.name} had different questions: {first} and {other}"
            f"{' in another prompt' if same_row else ''}; two traces need the same question in the same prompt",
        )


def _find(run: SavedRun, sample: str | None) -> tuple[Sample, list[RowId]]:
    """The first sample of the question, and all questions."""
    task, _, row = (sample or "").rpartition(":")
    require(
        sample is None or (row.isascii() and row.isdecimal() and len(row) <= _MAX_ROW_DIGITS),
        f"sample= takes a row of the dataset, such as 3, not '{sample}'",
    )
    matches: dict[RowId, Sample] = {}
    rows: set[RowId] = set()
    for one in run.read_samples():
        key = (one.task, one.doc_id)
        rows.add(key)
        if sample is None:
            if not matches or key < min(matches):
                matches = {key: one}
        elif one.doc_id == int(row) and task in ("", one.task):
            matches.setdefault(key, one)
    hint = "" if matches else _nearest_row(sorted(rows), task, int(row))
    require(bool(matches), f"{run.folder.name} has no question {sample}; {hint}")
    require(
        len(matches) == 1,
        f"{run.folder.name} has row {row} in several tasks; give sample={min(matches)[0]}:{row} or another of "
        f"{', '.join(name for name, _ in sorted(matches))}",
    )
    return next(iter(matches.values())), sorted(rows)


def _nearest_row(questions: list[RowId], task: str, row: int) -> str:
    tasks = sorted({name for name, _ in questions})
    if task not in ("", *tasks):
        return f"its tasks are {', '.join(tasks)}"
    rows = sorted({number for name, number in questions if task in ("", name)})
    near = min(rows, key=lambda number: abs(number - row))
    return f"its rows are {rows[0]} to {rows[-1]} ({len(rows)}), the nearest is {near}"


def _similar_folder(folder: Path) -> str:
    """A folder with a similar name, as the end of a sentence."""
    parent = folder.parent
    folders = [path.name for path in parent.iterdir() if os.path.isdir(path)] if os.path.isdir(parent) else []
    near = nearest(folder.name, folders)
    return f"; did you mean {parent / near}?" if near else ""
