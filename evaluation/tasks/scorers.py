"""The functions of each task of this package: what a row must have, and the scores of a saved answer.

lm-eval calls the same functions through the YAML files beside this one; a test holds those of GSM8K equal to lm-eval's
own. Neither torch nor lm-eval is loaded: saved answers can be scored without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cache_zoo import UsageError
from evaluation.config.task_table import OWN_TASKS, OwnTask
from evaluation.sandbox import Sandbox
from evaluation.tasks import gsm8k, humaneval, math500, mbpp, nano_code
from evaluation.tasks.jsonl import NonBlank, Problem, PythonName, PythonSource, PythonSources

Doc = dict[str, Any]
Scores = dict[str, Any]
Execute = Callable[[Sandbox, Doc, list[str]], Scores]
Columns = Mapping[str, type]


@dataclass(frozen=True, kw_only=True)
class Scorer(OwnTask):
    """A task with its functions.

    Attributes:
        columns: what a row must have, with its type (see `evaluation.tasks.jsonl.check_row`).
        problem: why a row can't be scored, judged by the columns that scoring reads.
        score: from row, answer cut at its stop words, everything generated and sandbox to lm-eval's metrics, by
            ``metric,filter``.
        execute: runs a program with its tests, if scoring runs code: lm-eval's ``process_results`` after the sandbox.
    """

    columns: Columns
    problem: Problem
    score: Callable[[Doc, str, str, Sandbox | None], Scores]
    execute: Execute | None = None


def _text(columns: Columns, problem: Problem, score: Callable[[Doc, str], Scores]) -> dict[str, Any]:
    """The functions of a task whose answers are compared."""
    return {"columns": columns, "problem": problem, "score": lambda doc, text, raw, sandbox: score(doc, text)}


def _code(
    columns: Columns, problem: Problem, programs: Callable[[Doc, str, str], dict[str, str]], execute: Execute
) -> dict[str, Any]:
    """The functions of a task whose answers are programs."""

    def score(doc: Doc, text: str, raw: str, sandbox: Sandbox | None) -> Scores:
        if sandbox is None:
            raise UsageError("this score runs generated code and needs a sandbox")
        found = {name: execute(sandbox, doc, [program]) for name, program in programs(doc, text, raw).items()}
        return {f"{metric},{name}": value for name, scores in found.items() for metric, value in scores.items()}

    return {"columns": columns, "problem": problem, "score": score, "execute": execute}


_QUESTIONS: Columns = {"question": NonBlank, "answer": NonBlank}
_PROBLEMS: Columns = {"problem": NonBlank, "answer": NonBlank}
_HUMANEVAL: Columns = {"prompt": NonBlank, "entry_point": PythonName, "test": PythonSource}
_MBPP: Columns = {"text": NonBlank, "test_setup_code": PythonSource, "test_list": PythonSources}
_NANO_CODE: Columns = {"prompt": NonBlank, "body": str, "entry_point": PythonName, "tests": PythonSource}

_FUNCTIONS = {
    "gsm8k": _text(_QUESTIONS, gsm8k.problem, gsm8k.score),
    "math-500": _text(_PROBLEMS, math500.problem, math500.score),
    "humaneval": _code(_HUMANEVAL, humaneval.problem, humaneval.programs, humaneval.execute),
    "mbpp": _code(_MBPP, mbpp.problem, mbpp.programs, mbpp.execute),
    "nano-gsm": _text(_QUESTIONS, gsm8k.problem, gsm8k.score_nano),
    "nano-code": _code(_NANO_CODE, nano_code.problem, nano_code.programs, nano_code.execute),
}

SCORERS = {name: Scorer(**vars(task), **_FUNCTIONS[name.removesuffix("_instruct")]) for name, task in OWN_TASKS.items()}
"""By the name of the task."""
