"""nano-code: complete a small function; its score is whether the asserts of the row pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.sandbox import Sandbox
from evaluation.tasks.code_execution import functions_of_prompt, prompt_problem, run_tests
from evaluation.tasks.programs.vacuous_tests import checks_nothing


def execute(sandbox: Sandbox, doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Run the completed function with its asserts: ``pass@1`` and ``outcome``."""
    return run_tests(sandbox, "pass@1", doc["prompt"] + results[0], doc["tests"], functions_of_prompt(doc["prompt"]))


def programs(doc: dict[str, Any], text: str, raw: str) -> dict[str, str]:
    """The answer under the name of lm-eval's default filter."""
    return {"none": text}


def problem(doc: Mapping[str, Any]) -> str | None:
    """Why a row can't be scored, or would accept any program; None if it is sound."""
    names = functions_of_prompt(doc["prompt"])
    if not names:
        return "'prompt' does not begin a function"
    if found := prompt_problem(doc["prompt"]):
        return found
    if checks_nothing(doc["tests"], names):
        return f"'tests' assert nothing about {', '.join(sorted(names))}: any program would pass"
    return None
