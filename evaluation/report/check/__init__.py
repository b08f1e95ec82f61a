"""Check run folders before they are submitted: ``cache-zoo check results/submissions/NAME``.

RULES.md lists what is checked, and what no check can find. Nothing that a run names is imported or followed.
"""

from evaluation.report.check.command import main
from evaluation.report.check.run_checks import DATASETS, Findings, check_all, check_run

__all__ = ["DATASETS", "Findings", "check_all", "check_run", "main"]
