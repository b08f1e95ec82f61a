"""Replay of recorded trajectories of the official implementations, token by token.

``python -m tests.conformance [folder ...]`` replays every case below the folders (default: the ones kept with the
tests, and ``../shared/conformance`` and ``../shared/conformance_zoo`` where they exist) and prints, per source, how
many are exact, how many differ for a reason named in `tests.conformance.known`, and how many without one.
"""

from tests.conformance.case import KEPT, SHARED, Case, cases
from tests.conformance.compare import differences
from tests.conformance.known import Verdict, judge

__all__ = ["KEPT", "SHARED", "Case", "Verdict", "cases", "differences", "judge"]
