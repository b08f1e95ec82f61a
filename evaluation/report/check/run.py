"""One run folder, part by part, and several beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cache_zoo import UsageError
from evaluation.report.check.answers import Answers
from evaluation.report.check.counts import Counts
from evaluation.report.check.files import check_files, check_rescored
from evaluation.report.check.origin import check_origin, check_settings
from evaluation.report.check.scores import Scores
from evaluation.report.check.subject import Subject, Watch
from evaluation.report.check.twins import Twins
from evaluation.storage.saved_run import SavedRun
from evaluation.tasks.published import published_rows
from evaluation.tasks.scorers import SCORERS

DATASETS = {task: found.sha256 for task in SCORERS if (found := published_rows(task)) is not None}
"""Digests of the rows of the published test files, as `evaluation.tasks.loading` takes them."""
_MOST = 100


@dataclass
class Checked:
    """What was found in a run folder.

    Attributes:
        problems: one sentence each; none if it may be submitted.
        notes: what was not looked at, and how it can be.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_run(folder: Path, datasets: Mapping[str, str] = DATASETS) -> list[str]:
    """What is wrong with a run folder, one sentence each; nothing if it may be submitted.

    Args:
        folder: of the run.
        datasets: digest of the rows by task; tasks that are not in it may have any.
    """
    ((_, found),) = check_all([SavedRun(folder)], datasets)
    return found.problems


def check_all(runs: Iterable[SavedRun], datasets: Mapping[str, str] = DATASETS) -> Iterator[tuple[SavedRun, Checked]]:
    """What is wrong with each of several runs, and between it and those before it.

    Args:
        runs: in the order in which they are looked at.
        datasets: as in `check_run`.
    """
    twins = Twins()
    for run in runs:
        found = Checked()
        for part in (_status, _parts):
            try:
                found.problems += part(run, datasets, twins, found.notes)
            except UsageError as error:
                found.problems.append(_within(run.folder, error))
            if found.problems:
                break
        problems = list(dict.fromkeys(found.problems))
        if len(problems) > _MOST:
            problems = [*problems[:_MOST], f"and {len(problems) - _MOST} more"]
        found.problems = problems
        yield run, found


def _status(run: SavedRun, datasets: Mapping[str, str], twins: Twins, notes: list[str]) -> Iterator[str]:
    if not run.done:
        yield f"the run is {run.status.status}; only runs that are done can be ranked"


def _parts(run: SavedRun, datasets: Mapping[str, str], twins: Twins, notes: list[str]) -> Iterator[str]:
    """Every part of a run that is done; one that can't be read ends what needs it, and nothing else."""
    yield from check_files(run)
    subject = Subject(run, datasets)
    for part in (check_settings, check_origin, check_rescored):
        try:
            yield from part(subject)
        except UsageError as error:
            yield _within(run.folder, error)
    watching: tuple[Watch, ...] = (Answers(subject), Counts(subject), Scores(subject), twins.of(subject))
    try:
        for sample in run.read_samples():
            for one in watching:
                one.see(sample)
        for one in watching:
            yield from one.problems()
            notes += one.notes
    except UsageError as error:
        yield _within(run.folder, error)


def _within(folder: Path, error: UsageError) -> str:
    return str(error).replace(f"{folder}/", "").replace(str(folder), "the folder")
