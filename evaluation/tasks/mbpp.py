"""MBPP: from an answer to a program with tests, and its score by two filters, ``none`` and ``extract_code``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.sandbox import Sandbox
from evaluation.tasks.code_execution import EXTRACTED, cut_and_raw, run_tests
from evaluation.tasks.extraction import extract, names_used
from evaluation.tasks.programs.vacuous_tests import checks_nothing


def extracted(resps: list[list[str]], docs: list[dict[str, Any]]) -> list[str]:
    """Filter of lm-eval: the program found in the answer."""
    return [programs(doc, *cut_and_raw(answers))[EXTRACTED] for answers, doc in zip(resps, docs, strict=True)]


def execute(sandbox: Sandbox, doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Run a program with the tests of its problem: ``pass_at_1``, as lm-eval calls it, and ``outcome``."""
    # the setup code makes objects of the program's classes, so it must run where the program runs
    program = _unix(f"{results[0]}\n{doc['test_setup_code']}")
    return run_tests(sandbox, "pass_at_1", program, tests(doc), _names(doc))


def programs(doc: dict[str, Any], text: str, raw: str | None = None) -> dict[str, str]:
    """Programs by filter, as in `evaluation.tasks.humaneval.programs`."""
    return {"none": text, EXTRACTED: extract(text if raw is None else raw, _names(doc))}


def tests(doc: Mapping[str, Any]) -> str:
    """The dataset's assertions."""
    return _unix("\n".join(doc["test_list"])) + "\n"


def problem(doc: Mapping[str, Any]) -> str | None:
    """Why a row would accept any program; None if it is sound."""
    if checks_nothing(tests(doc), _names(doc)):
        return "'test_list' asserts nothing about a function: any program would pass"
    return None


def _names(doc: Mapping[str, Any]) -> set[str]:
    """What a program has to define: the names in the assertions, and in the setup code that one problem has."""
    return names_used(_unix(f"{doc['test_setup_code']}\n{tests(doc)}"))


def _unix(text: str) -> str:
    """MBPP's rows have Windows line ends."""
    return text.replace("\r\n", "\n")
