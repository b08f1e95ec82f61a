"""The command: a line per problem."""

from __future__ import annotations

import sys
from pathlib import Path

from cache_zoo.arguments import Parser
from cache_zoo.errors import DONE, FAILED, refusing, visible
from evaluation.report.check.run_checks import check_all
from evaluation.storage.find_runs import find_runs


@refusing
def main() -> int:
    """Print every problem; 0 there is none, 1 there are some, 2 something given can't be used."""
    parser = Parser(
        prog="cache-zoo check",
        description="Check run folders before they are submitted to the leaderboard: a line per problem. "
        "Exit status: 0 no problem, 1 problems, 2 something given can't be used.",
    )
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="folder", help="run folders, or folders that hold them somewhere below"
    )
    arguments = parser.parse_args()
    runs = find_runs(arguments.folders, name_from=Path())
    bad = 0
    for run, found in check_all(runs.values()):
        bad += bool(found.problems)
        for problem in found.problems:
            print(visible(f"{run.folder}: {problem}"))
        for note in found.notes:
            print(visible(f"note: {run.folder}: {note}"), file=sys.stderr)
    print(f"{len(runs)} run{'s' * (len(runs) != 1)}, {bad} with problems", file=sys.stderr)
    return FAILED if bad else DONE
