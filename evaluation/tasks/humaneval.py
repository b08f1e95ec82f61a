"""HumanEval: from an answer to a program with tests, and its score.

Each answer is scored twice, as two filters of lm-eval. ``create_test`` is the prompt with the answer, cut at the stop
words; ``extract_code`` is the program found in everything that was generated.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from evaluation.sandbox import Sandbox
from evaluation.tasks.code_execution import EXTRACTED, cut_and_raw, prompt_problem, run_tests
from evaluation.tasks.extraction import extract
from evaluation.tasks.programs.vacuous_tests import checker_problem


def strict(resps: list[list[str]], docs: list[dict[str, Any]]) -> list[str]:
    """Filter of lm-eval: the prompt with the answer as it is."""
    return [programs(doc, answers[0])["create_test"] for answers, doc in zip(resps, docs, strict=True)]


def extracted(resps: list[list[str]], docs: list[dict[str, Any]]) -> list[str]:
    """Filter of lm-eval: the program found in the answer."""
    return [programs(doc, *cut_and_raw(answers))[EXTRACTED] for answers, doc in zip(resps, docs, strict=True)]


def execute(sandbox: Sandbox, doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Run a program with the tests of its problem: ``pass@1`` and ``outcome``."""
    return run_tests(sandbox, "pass@1", results[0], tests(doc), [doc["entry_point"]])


def programs(doc: dict[str, Any], text: str, raw: str | None = None) -> dict[str, str]:
    """Programs by filter, from the answer cut at its stop words and everything generated (None: the same)."""
    found = extract(text if raw is None else raw, {doc["entry_point"]}, doc["prompt"])
    return {"create_test": doc["prompt"] + text, EXTRACTED: found}


def tests(doc: dict[str, Any]) -> str:
    """The dataset's ``check``, called with the function."""
    return f"{_helpers(doc)}\n{doc['test']}\ncheck({doc['entry_point']})\n"


def _helpers(doc: dict[str, Any]) -> str:
    """What the prompt defines before its function. Tests may use it, and the program could forge its own copy."""
    try:
        tree = ast.parse(f"{doc['prompt']}    pass\n")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    kept = [node for node in tree.body if getattr(node, "name", None) != doc["entry_point"]]
    return ast.unparse(ast.Module(kept, type_ignores=[]))


def problem(doc: Mapping[str, Any]) -> str | None:
    """Why a row can't be scored, or would accept any program; None if it is sound."""
    name = doc["entry_point"]
    if not re.search(rf"(?m)^[ \t]*(?:(?:async[ \t]+)?def|class)[ \t]+{name}\b", doc["prompt"]):
        return f"'prompt' does not define {name}, which is the 'entry_point'"
    return prompt_problem(doc["prompt"]) or checker_problem(doc["test"], name)
