"""For tasks whose answers are programs: what counts is whether the tests pass."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from typing import Any

from evaluation.sandbox import Sandbox


def process_results(sandbox: Sandbox, doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Run the completed function with its asserts: `pass@1` is 1.0 or 0.0, `outcome` says why. For nano-code."""
    return verdict(sandbox, "pass@1", doc["prompt"] + results[0], doc["tests"], begun(doc["prompt"]))


def begun(prompt: str) -> set[str]:
    """Names of the functions that a prompt begins, which are its own even where built-in ones are called so."""
    return set(re.findall(r"(?m)^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)", prompt))


def verdict(sandbox: Sandbox, metric: str, program: str, tests: str, names: Collection[str] = ()) -> dict[str, Any]:
    """``{metric: 1.0 or 0.0, "outcome": why}``. All generated code of this project is run here.

    Args:
        sandbox: that it is run in.
        metric: name of the score.
        program: Python source.
        tests: what decides about it.
        names: built-in names that the tests want from the program.
    """
    outcome = sandbox.run(f"{program}\n", tests, names=names)
    return {metric: float(outcome.passed), "outcome": str(outcome)}


def count_outcomes(outcomes: list[str]) -> dict[str, int]:
    """How many programs ended for which reason, the most frequent first."""
    return dict(Counter(outcome.partition(":")[0] for outcome in outcomes).most_common())
