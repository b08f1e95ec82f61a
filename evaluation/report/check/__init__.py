"""Check run folders before they are submitted: ``cache-zoo check results/submissions/NAME``.

RULES.md says what is asked of them, and what no check can find. Nothing that a run names is imported or followed.
"""

from evaluation.report.check.command import main
from evaluation.report.check.run import DATASETS, Checked, check_all, check_run

__all__ = ["DATASETS", "Checked", "check_all", "check_run", "main"]
