"""Run all checks on run folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cache_zoo import UsageError
from evaluation.report.check.answers import AnswerCheck
from evaluation.report.check.context import CheckedRun, Problems, SampleCheck
from evaluation.report.check.files import check_files, check_rescored
from evaluation.report.check.other_runs import OtherRuns, OtherRunsCheck
from evaluation.report.check.provenance import check_provenance, check_settings
from evaluation.report.check.scores import ScoreCheck
from evaluation.report.check.work import WorkCheck
from evaluation.storage.saved_run import SavedRun
from evaluation.tasks.published_data import published_rows
from evaluation.tasks.scorers import SCORERS

DATASETS = {task: rows.sha256 for task in SCORERS if (rows := published_rows(task)) is not None}
"""Digests of the published test files by task, as `evaluation.tasks.loading` computes them."""
_MAX_PROBLEMS = 100


@dataclass
class Findings:
    """Result of checking a run folder.

    Attributes:
        problems: one sentence each; none if the run may be submitted.
        notes: what was not checked, and how to check it.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_run(folder: Path, datasets: Mapping[str, str] = DATASETS) -> list[str]:
    """The problems of a run folder, one sentence each; tasks that ``datasets`` lacks may have any data."""
    ((_, findings),) = check_all([SavedRun(folder)], datasets)
    return findings.problems


def check_all(runs: Iterable[SavedRun], datasets: Mapping[str, str] = DATASETS) -> Iterator[tuple[SavedRun, Findings]]:
    """Check each run by itself and against the runs before it; ``datasets`` as in `check_run`."""
    others = OtherRuns()
    for run in runs:
        findings = Findings()
        problems = list(dict.fromkeys(_check(run, datasets, others, findings.notes)))
        findings.problems = problems[:_MAX_PROBLEMS]
        if len(problems) > _MAX_PROBLEMS:
            findings.problems.append(f"and {len(problems) - _MAX_PROBLEMS} more")
        yield run, findings


def _check(run: SavedRun, datasets: Mapping[str, str], others: OtherRuns, notes: list[str]) -> Problems:
    """All checks of a run; an unreadable file ends only the checks that need it."""
    try:
        if not run.done:
            yield f"the run is {run.status.status}; only runs that are done can be ranked"
            return
        yield from check_files(run)
    except UsageError as error:
        yield _message(run, error)
        return
    checked = CheckedRun(run, datasets)
    for check in (check_settings, check_provenance, check_rescored):
        try:
            yield from check(checked)
        except UsageError as error:
            yield _message(run, error)
    try:
        sample_checks: list[SampleCheck] = [AnswerCheck(checked), WorkCheck(checked), ScoreCheck(checked)]
        sample_checks.append(OtherRunsCheck(checked, others))
        for sample in run.read_samples():
            for sample_check in sample_checks:
                sample_check.add(sample)
        for sample_check in sample_checks:
            yield from sample_check.problems()
            notes += sample_check.notes
    except UsageError as error:
        yield _message(run, error)


def _message(run: SavedRun, error: UsageError) -> str:
    """The error, with file names in place of paths."""
    return str(error).replace(f"{run.folder}/", "").replace(str(run.folder), "the folder")
