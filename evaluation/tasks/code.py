"""HumanEval and MBPP: from a generation to a program with tests.

Each generation is scored in two ways, which are filters in lm-eval's sense. *Strict* takes the answer as it is, cut at
the task's stop words; its filter is named as in lm-eval's task for base models. *Extracted* (``extract_code``) takes
what `evaluation.tasks.extraction.extract` finds in all that was generated.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from evaluation.sandbox import Sandbox
from evaluation.tasks.execution import begun, verdict
from evaluation.tasks.extraction import extract, names_used
from evaluation.tasks.programs.definitions import parsed
from evaluation.tasks.programs.vacuous import checker_problem, checks_nothing

EXTRACTED = "extract_code"


def humaneval_strict(resps: list[list[str]], docs: list[dict[str, Any]]) -> list[str]:
    """Filter of lm-eval: the prompt with the answers as they are."""
    return [humaneval_programs(doc, answers[0])["create_test"] for answers, doc in zip(resps, docs, strict=True)]


def humaneval_extracted(resps: list[list[str]], docs: list[dict[str, Any]]) -> list[str]:
    """Filter of lm-eval: the programs that are found in the answers."""
    return [humaneval_programs(doc, *_both(answers))[EXTRACTED] for answers, doc in zip(resps, docs, strict=True)]


def mbpp_extracted(resps: list[list[str]], docs: list[dict[str, Any]]) -> list[str]:
    """Filter of lm-eval: the programs that are found in the answers."""
    return [mbpp_programs(doc, *_both(answers))[EXTRACTED] for answers, doc in zip(resps, docs, strict=True)]


def run_humaneval(sandbox: Sandbox, doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Run a program with the tests of a problem of HumanEval: ``pass@1`` and ``outcome``."""
    return verdict(sandbox, "pass@1", results[0], humaneval_tests(doc), [doc["entry_point"]])


def run_mbpp(sandbox: Sandbox, doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Run a program with the tests of a problem of MBPP: ``pass_at_1``, as lm-eval calls it, and ``outcome``."""
    # objects of the program's own classes can only be made where the program runs
    program = _unix(f"{results[0]}\n{doc['test_setup_code']}")
    return verdict(sandbox, "pass_at_1", program, mbpp_tests(doc), _mbpp_names(doc))


def humaneval_programs(doc: dict[str, Any], text: str, raw: str | None = None) -> dict[str, str]:
    """Programs by filter.

    Args:
        doc: row of the dataset.
        text: the answer, cut at its stop words.
        raw: everything generated; None: the same as ``text``.
    """
    found = extract(text if raw is None else raw, {doc["entry_point"]}, doc["prompt"])
    return {"create_test": doc["prompt"] + text, EXTRACTED: found}


def humaneval_tests(doc: dict[str, Any]) -> str:
    """What decides about a program: the dataset's ``check``, called with the function."""
    return f"{_helpers(doc)}\n{doc['test']}\ncheck({doc['entry_point']})\n"


def _helpers(doc: dict[str, Any]) -> str:
    """What the prompt has beside the function that it begins. Tests may use it, and a program's own might be forged."""
    try:
        tree = ast.parse(f"{doc['prompt']}    pass\n")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    kept = [node for node in tree.body if getattr(node, "name", None) != doc["entry_point"]]
    return ast.unparse(ast.Module(kept, type_ignores=[]))


def mbpp_programs(doc: dict[str, Any], text: str, raw: str | None = None) -> dict[str, str]:
    """Programs by filter; arguments as of `humaneval_programs`."""
    return {"none": text, EXTRACTED: extract(text if raw is None else raw, _mbpp_names(doc))}


def mbpp_tests(doc: Mapping[str, Any]) -> str:
    """What decides about a program: the dataset's assertions."""
    return _unix("\n".join(doc["test_list"])) + "\n"


def humaneval_problem(doc: Mapping[str, Any]) -> str | None:
    """Why a row of HumanEval could not be scored, or would be right for nothing; None where it is sound."""
    name = doc["entry_point"]
    if not defined(doc["prompt"], name):
        return f"'prompt' does not define {name}, which is the 'entry_point'"
    if not _begins(doc["prompt"]):
        return _NO_BEGINNING
    return checker_problem(doc["test"], name)


def mbpp_problem(doc: Mapping[str, Any]) -> str | None:
    """As `humaneval_problem`, of MBPP."""
    if checks_nothing(mbpp_tests(doc), _mbpp_names(doc)):
        return "'test_list' asserts nothing about a function: any program would pass"
    return None


def functions_problem(doc: Mapping[str, Any]) -> str | None:
    """As `humaneval_problem`, of nano-code."""
    names = begun(doc["prompt"])
    if not names:
        return "'prompt' does not begin a function"
    if not _begins(doc["prompt"]):
        return _NO_BEGINNING
    if checks_nothing(doc["tests"], names):
        return f"'tests' assert nothing about {', '.join(sorted(names))}: any program would pass"
    return None


_NO_BEGINNING = "'prompt' is not how a program of Python begins: no answer could pass"


def _begins(prompt: str) -> bool:
    """Whether a program can go on with the body of the function that a prompt ends with."""
    for margin in ("", " ", "  ", "    ", "        ", "\t", "\t\t"):  # without a margin where it has a docstring
        with suppress(SyntaxError, ValueError, MemoryError):
            parsed(f"{prompt.rstrip(' ')}\n{margin}pass\n")
            return True
    return False


def defined(prompt: str, name: str) -> bool:
    """Whether a program that is to be continued begins a function or a class of that name."""
    return bool(re.search(rf"(?m)^[ \t]*(?:(?:async[ \t]+)?def|class)[ \t]+{name}\b", prompt))


def _mbpp_names(doc: Mapping[str, Any]) -> set[str]:
    """What a program has to define: what is used by the assertions, and by the preparation that one problem has."""
    return names_used(_unix(f"{doc['test_setup_code']}\n{mbpp_tests(doc)}"))


def _unix(text: str) -> str:
    """MBPP's rows have line ends of Windows."""
    return text.replace("\r\n", "\n")


def _both(answers: list[str]) -> tuple[str, str]:
    """The first answer, and all that was generated for it where the model class says so (`evaluation.run.lm.Text`)."""
    return answers[0], getattr(answers[0], "raw", answers[0])
