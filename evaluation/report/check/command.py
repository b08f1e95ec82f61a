"""The command: a line per problem."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from cache_zoo.arguments import positional, read
from cache_zoo.errors import DONE, FAILED, refusing, visible
from evaluation.report.check.run_checks import check_all
from evaluation.storage.find_runs import find_runs


@dataclass(frozen=True)
class CheckOptions:
    """Check run folders before they are submitted to the leaderboard: one line per problem.

    Exit status: 0 no problem, 1 problems, 2 unusable input.

    Attributes:
        folders: run folders, or folders that contain them at any depth.
    """

    folders: list[Path] = positional()


@refusing
def main() -> int:
    """Print every problem and return the exit status."""
    runs = find_runs(read(CheckOptions, "cache-zoo check").folders, name_from=Path())
    bad = 0
    for run, findings in check_all(runs.values()):
        bad += bool(findings.problems)
        for problem in findings.problems:
            print(visible(f"{run.folder}: {problem}"))
        for note in findings.notes:
            print(visible(f"note: {run.folder}: {note}"), file=sys.stderr)
    print(f"{len(runs)} run{'s' * (len(runs) != 1)}, {bad} with problems", file=sys.stderr)
    return FAILED if bad else DONE
