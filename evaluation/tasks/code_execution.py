"""Score answers that are programs, by running them with their tests in the sandbox (HumanEval, MBPP, nano-code)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from cache_zoo import UsageError
from evaluation.sandbox import Sandbox, SandboxError
from evaluation.tasks.programs.statements import parsed

EXTRACTED = "extract_code"
"""Filter of the program that `evaluation.tasks.extraction.extract` finds in everything generated."""


def run_tests(sandbox: Sandbox, metric: str, program: str, tests: str, names: Collection[str] = ()) -> dict[str, Any]:
    """Run a program with its tests; all generated code of this project runs here.

    Args:
        sandbox: where it runs.
        metric: name of the score.
        program: Python source.
        tests: Python source that decides whether it passes.
        names: names of built-ins that the tests take from the program.

    Returns:
        ``{metric: 1.0 or 0.0, "outcome": why}``.

    Raises:
        UsageError: the sandbox does not work on this machine.
    """
    with _usage_errors():
        verdict = sandbox.run(f"{program}\n", tests, names=names)
    return {metric: float(verdict.passed), "outcome": str(verdict)}


def check_sandbox(sandbox: Sandbox) -> None:
    """Make sure that the sandbox runs programs, before a fault of the machine becomes a model's score.

    Raises:
        UsageError: it does not.
    """
    with _usage_errors():
        sandbox.check()


@contextmanager
def _usage_errors() -> Iterator[None]:
    try:
        yield
    except SandboxError as error:
        layers = ",".join(error.missing)
        advice = f". docs/sandbox.md describes the layers; sandbox_disable=[{layers}] runs without" if layers else ""
        raise UsageError(f"allow_code_execution: {error}{advice}") from error


def count_outcomes(outcomes: list[str]) -> dict[str, int]:
    """How many programs ended for each reason, the most frequent first."""
    return dict(Counter(outcome.partition(":")[0] for outcome in outcomes).most_common())


def not_scored(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's ``process_results`` without a sandbox: no metrics, since an unknown score is missing, not zero."""
    return {}


def unscored_reason(task: str) -> str:
    """Why a task whose answers are programs has no score yet, for the summary of a run."""
    return (
        f"{task} is generated and saved; scoring it runs generated code: "
        "give allow_code_execution=true, or use cache-zoo rescore later"
    )


def functions_of_prompt(prompt: str) -> set[str]:
    """Names of the functions that a prompt begins; they belong to the program even if a built-in has the name."""
    return set(re.findall(r"(?m)^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)", prompt))


def prompt_problem(prompt: str) -> str | None:
    """Why no function body can continue a prompt; None if one can."""
    for margin in ("", " ", "  ", "    ", "        ", "\t", "\t\t"):  # "": the prompt has a docstring
        with suppress(SyntaxError, ValueError, MemoryError):
            parsed(f"{prompt.rstrip(' ')}\n{margin}pass\n")
            return None
    return "'prompt' is not the beginning of a Python program: no answer could pass"


def cut_and_raw(answers: list[str]) -> tuple[str, str]:
    """The first answer, cut at its stop words, and everything generated if the model keeps it (`run.lm.Text`)."""
    return answers[0], getattr(answers[0], "raw", answers[0])
