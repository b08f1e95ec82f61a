"""What is known of the tasks that have a scorer here: columns, headline metric, and the scores of a saved answer.

Nothing here loads torch or lm-eval, so that saved generations can be scored without them. lm-eval calls the same
functions, through the YAML files beside this one; those of GSM8K, which lm-eval scores itself, are held equal by a
test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cache_zoo import UsageError
from evaluation.sandbox import Sandbox
from evaluation.tasks import code, execution, gsm8k, math500
from evaluation.tasks.jsonl import Filled, Name, Problem, Source, Sources

Doc = dict[str, Any]
Scores = dict[str, Any]


@dataclass(frozen=True)
class Scorer:
    """How a task is scored.

    Attributes:
        headline: metric and filter of the score that is shown.
        columns: what a row must have, with its type (see `evaluation.tasks.jsonl.check_row`).
        needs: the columns that scoring reads; they are kept with the answers.
        score: row, answer as cut, everything generated, and the sandbox for generated code, to lm-eval's metrics by
            ``metric,filter``.
        problem: why a row would be scored for nothing, of the columns that scoring reads (see
            `evaluation.tasks.jsonl.check_row`).
        execute: for lm-eval, where scoring takes running generated code: its ``process_results``, after the sandbox.
    """

    headline: str
    columns: Mapping[str, type]
    needs: tuple[str, ...]
    score: Callable[[Doc, str, str, Sandbox | None], Scores]
    problem: Problem | None = None
    execute: Callable[[Sandbox, Doc, list[str]], Scores] | None = None


def _gsm8k(doc: Doc, text: str, raw: str, sandbox: Sandbox | None) -> Scores:
    return {
        "exact_match,strict-match": float(gsm8k.same(gsm8k.strict(text), doc["answer"])),
        "exact_match,flexible-extract": float(gsm8k.same(gsm8k.flexible(text), doc["answer"])),
    }


def _nano_gsm(doc: Doc, text: str, raw: str, sandbox: Sandbox | None) -> Scores:
    return {"exact_match,strict-match": float(gsm8k.nano(text) == doc["answer"].rpartition("#### ")[2])}


def _math500(doc: Doc, text: str, raw: str, sandbox: Sandbox | None) -> Scores:
    return _filtered("none", math500.process_results(doc, [text]))


def _nano_code(doc: Doc, text: str, raw: str, sandbox: Sandbox | None) -> Scores:
    return _filtered("none", execution.process_results(_given(sandbox), doc, [text]))


def _humaneval(doc: Doc, text: str, raw: str, sandbox: Sandbox | None) -> Scores:
    return _programs(code.humaneval_programs(doc, text, raw), code.run_humaneval, doc, sandbox)


def _mbpp(doc: Doc, text: str, raw: str, sandbox: Sandbox | None) -> Scores:
    return _programs(code.mbpp_programs(doc, text, raw), code.run_mbpp, doc, sandbox)


def _given(sandbox: Sandbox | None) -> Sandbox:
    if sandbox is None:
        raise UsageError("this score takes running generated code, and there is no sandbox for it")
    return sandbox


def _programs(
    programs: dict[str, str], run: Callable[[Sandbox, Doc, list[str]], Scores], doc: Doc, sandbox: Sandbox | None
) -> Scores:
    found = {name: run(_given(sandbox), doc, [program]) for name, program in programs.items()}
    return {key: value for name, scores in found.items() for key, value in _filtered(name, scores).items()}


def _filtered(name: str, scores: Scores) -> Scores:
    return {f"{metric},{name}": value for metric, value in scores.items()}


def _scorer_of_humaneval(headline: str) -> Scorer:
    columns: dict[str, type] = {"prompt": Filled, "entry_point": Name, "test": Source}
    return Scorer(headline, columns, tuple(columns), _humaneval, code.humaneval_problem, code.run_humaneval)


def _scorer_of_mbpp(headline: str) -> Scorer:
    columns: dict[str, type] = {"text": Filled, "test_setup_code": Source, "test_list": Sources}
    return Scorer(headline, columns, ("test_setup_code", "test_list"), _mbpp, code.mbpp_problem, code.run_mbpp)


def _no_number(doc: Mapping[str, Any]) -> str | None:
    """Of GSM8K's rows, whose answer is the number behind ``####``."""
    if _NUMBER.fullmatch(doc["answer"].rpartition("#### ")[2]) and "#### " in doc["answer"]:
        return None
    return "'answer' must end with #### and a number, and nothing behind it"


def _no_answer(doc: Mapping[str, Any]) -> str | None:
    """Of rows with a final answer in mathematics."""
    if not doc["answer"].strip("$ \t\r\n\\."):
        return "'answer' is blank"
    return None if math500.same(doc["answer"], doc["answer"]) else "'answer' can't be read, not even as itself"


_NUMBER = re.compile(r"-?\$?-?[0-9][0-9,]*(?:\.[0-9]+)?\.?|-?\$?\.[0-9]+")
_MATH500 = Scorer("math_verify,none", {"problem": Filled, "answer": Filled}, ("answer",), _math500, _no_answer)
_QUESTIONS: dict[str, type] = {"question": Filled, "answer": Filled}
_FUNCTIONS: dict[str, type] = {"prompt": Filled, "body": str, "entry_point": Name, "tests": Source}

SCORERS = {
    "gsm8k": Scorer("exact_match,flexible-extract", _QUESTIONS, ("answer",), _gsm8k, _no_number),
    "math-500": _MATH500,
    "math-500_instruct": _MATH500,
    "humaneval": _scorer_of_humaneval("pass@1,create_test"),
    "humaneval_instruct": _scorer_of_humaneval("pass@1,extract_code"),
    "mbpp": _scorer_of_mbpp("pass_at_1,none"),
    "mbpp_instruct": _scorer_of_mbpp("pass_at_1,extract_code"),
    "nano-gsm": Scorer("exact_match,strict-match", _QUESTIONS, ("answer",), _nano_gsm, _no_number),
    "nano-code": Scorer(
        "pass@1,none",
        _FUNCTIONS,
        ("prompt", "tests"),
        _nano_code,
        code.functions_problem,
        execution.process_results,
    ),
}
"""By the name of the task."""
