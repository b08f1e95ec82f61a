"""For tasks whose answers are programs: what counts is whether the tests pass."""

from __future__ import annotations

from collections import Counter
from typing import Any

from evaluation.sandbox import Sandbox


def process_results(sandbox: Sandbox, doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Run the completed function with its asserts: `pass@1` is 1.0 or 0.0, `outcome` says why."""
    outcome = sandbox.run(f"{doc['prompt']}{results[0]}\n", doc["tests"])
    return {"pass@1": float(outcome.passed), "outcome": str(outcome)}


def count_outcomes(outcomes: list[str]) -> dict[str, int]:
    """How many programs ended for which reason, the most frequent first."""
    return dict(Counter(outcome.partition(":")[0] for outcome in outcomes).most_common())
