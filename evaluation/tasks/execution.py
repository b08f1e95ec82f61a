"""For tasks whose answers are programs: what counts is whether the tests pass."""

from __future__ import annotations

from collections import Counter
from typing import Any

from evaluation.sandbox import Outcome, run_program


def run_tests(program: str, tests: str) -> Outcome:
    """What becomes of a program with its tests. All generated code of this project is run here."""
    return run_program(f"{program}\n{tests}")


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Run the completed function with its asserts: `pass@1` is 1.0 or 0.0, `outcome` says why. For nano-code."""
    return verdict("pass@1", doc["prompt"] + results[0], doc["tests"])


def verdict(metric: str, program: str, tests: str) -> dict[str, Any]:
    """``{metric: 1.0 or 0.0, "outcome": why}``."""
    outcome = run_tests(program, tests)
    return {metric: float(outcome.passed), "outcome": str(outcome)}


def count_outcomes(outcomes: list[str]) -> dict[str, int]:
    """How many programs ended for which reason, the most frequent first."""
    return dict(Counter(outcome.partition(":")[0] for outcome in outcomes).most_common())
