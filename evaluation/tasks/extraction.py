"""The program in what a model generated: one function for all tasks that are scored by running code.

Models wrap code in prose and fences, say the prompt again, stop in the middle of a line, or go on with the next
problem. `extract` finds the functions that the tests call and leaves the rest behind. It only reads text: nothing is
run here.
"""

from __future__ import annotations

import ast
import builtins
import re
import warnings

TURN_ENDS = ("<|endoftext|>", "<|eot_id|>", "<|im_end|>", "<|end_of_text|>", "<|end|>", "</s>", "[DONE]", "[/DONE]")
"""What ends an answer: special tokens of the models, as raw text shows them, and MBPP's own mark."""

_MOST_CHARACTERS, _MOST_LINES, _MOST_FENCES, _MOST_STARTS = 20_000, 1000, 20, 30
_TRIES = 5  # for the end of a stretch of code; errors name their line, so that two or three are the rule
# Without these bounds a model that repeats an open bracket for a thousand lines would take minutes.

_FENCE = re.compile(r"```[ \t]*(?:[A-Za-z][\w+-]*)?[ \t]*(?:\n|\Z)|```")
_CODE_BEGINS = re.compile(r"(?:async def|def|class|import|from)\b|@\w|[A-Za-z_]\w*\s*=[^=]")
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_ALWAYS = (*_FUNCTION, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Try)
_ASSIGNMENT = (ast.Assign, ast.AnnAssign, ast.AugAssign)


def extract(raw: str, needed: set[str], prompt: str = "") -> str:
    """A program that defines ``needed``, as far as ``raw`` has one.

    In this order, the first that defines all names (else the one that defines most of them):

    1. what comes before the first fence, as the rest of the function that ``prompt`` begins;
    2. the code in ``raw`` by itself, fenced or not, up to where the names are defined for the first time;
    3. a fenced block, as the rest of the function that ``prompt`` begins;
    4. the rest of the function with its indentation lost, on the first line or on all.

    Of the lines those are kept that compile; of the statements imports, functions, classes, and the assignments that
    come before the names. Calls, prints, assertions and second versions of a function are left out.

    Args:
        raw: everything generated, special tokens included.
        needed: names that the tests use.
        prompt: Python source that was to be continued; "" where the whole program was asked for.

    Returns:
        Source of the program, what it needs of ``prompt`` included; "" if none of the names is defined.
    """
    lines = _cut(raw[:_MOST_CHARACTERS].replace("\r\n", "\n")).split("\n")[:_MOST_LINES]
    parts = _FENCE.split("\n".join(lines), maxsplit=_MOST_FENCES)
    candidates = [_continued(prompt, parts[0], needed)]
    candidates += [_alone(prompt, parts, needed)]
    candidates += [_continued(prompt, part, needed) for part in parts[1:]]
    candidates += [_continued(prompt, indented, needed) for part in parts for indented in _indented(part)]
    return max(candidates, key=lambda program: len(_complete(program, needed)), default="")


def names_used(tests: str) -> set[str]:
    """Names that a test program uses and does not define itself; built-in ones only where it uses no others."""
    nodes = [node for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Name)]
    bound = {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    bound |= {name for node in ast.parse(tests).body for name in _names(node)}
    used = {node.id for node in nodes} - bound
    return used - set(dir(builtins)) or used  # one problem of MBPP asks for a function named sum


def _cut(text: str) -> str:
    """``text`` up to the end of the turn."""
    found = [place for mark in TURN_ENDS if (place := text.find(mark)) >= 0]
    return text[: min(found)] if found else text


def _continued(prompt: str, text: str, needed: set[str]) -> str:
    """``prompt`` with the lines of ``text`` that continue its last function."""
    lines = text.split("\n")
    first = next((line for line in lines if line.strip()), "")
    if not prompt or not first.startswith((" ", "\t")):
        return ""
    head = prompt if prompt.endswith("\n") else prompt + "\n"
    return _trimmed(head + _join(lines[: _longest(head, lines)]), needed)


def _alone(prompt: str, parts: list[str], needed: set[str]) -> str:
    """The code in ``parts`` up to the one that completes ``needed``, after what ``prompt`` has before its function."""
    code = before = _preamble(prompt, needed)
    for part in parts:
        code += "".join(_pieces(part))
        if needed <= _complete(code, needed):
            break
    return _trimmed(code, needed) if code != before else ""


def _pieces(text: str) -> list[str]:
    """Stretches of lines that are Python; what is between them is not."""
    lines, found, place, starts = text.split("\n"), [], 0, 0
    margin = min((len(line) - len(line.lstrip()) for line in lines if _CODE_BEGINS.match(line.lstrip())), default=0)
    lines = [line[margin:] if not line[:margin].strip() else line for line in lines]
    while place < len(lines) and starts < _MOST_STARTS:
        begins = bool(_CODE_BEGINS.match(lines[place]))
        starts += begins
        count = _longest("", lines[place:]) if begins else 0
        if count:
            found.append(_join(lines[place : place + count]))
        place += max(count, 1)
    return found


def _indented(text: str) -> list[str]:
    """``text`` with the indentation of its first line put back, and of all its lines."""
    lines = text.strip("\n").split("\n")
    if re.match(r"\s|$|@|(?:async def|def|class)\b", lines[0]):  # there is nothing to put back, or no body
        return []
    return ["    " + _join(lines), _join(["    " + line for line in lines])]


def _longest(head: str, lines: list[str]) -> int:
    """How many of ``lines``, from the first on, make a program after ``head``."""
    kept, before = len(lines), head.count("\n")
    for _ in range(_TRIES):
        if kept <= 0:
            break
        line = _wrong_line(head + _join(lines[:kept]))
        if line is None:
            return kept
        # a beginning that still holds the line of the error has the same error
        kept = min(kept - 1, line - before - 1)
    return 0


def _wrong_line(source: str) -> int | None:
    """The line of the first error that keeps ``source`` from compiling; None where it compiles."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes, and the like
            compile(source, "<answer>", "exec", dont_inherit=True)
    except SyntaxError as error:
        return error.lineno or source.count("\n")
    except (ValueError, RecursionError, MemoryError, OverflowError):  # null bytes, far too deep nesting
        return source.count("\n")
    return None


def _parsed(source: str) -> list[ast.stmt]:
    if _wrong_line(source) is not None:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source).body


def _trimmed(source: str, needed: set[str]) -> str:
    """The statements of ``source`` that define something, the first full version of what is ``needed``."""
    missing, kept = set(needed), []
    for node in _parsed(source):
        names = _names(node) & needed
        if names and isinstance(node, _FUNCTION) and not (_has_body(node) and names & missing):
            continue  # a stub, or one more version
        if _belongs(node, bool(missing), needed):
            kept.append(node)
            missing -= names
    lines, text, last = source.split("\n"), "", 0
    for node in kept:
        start = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
        if start > last:  # else it shares a line with the one before
            gap = "\n" if text and isinstance(node, (*_FUNCTION, ast.ClassDef)) else ""
            last = node.end_lineno or start
            text += gap + _join(lines[start - 1 : last])
    return text


def _belongs(node: ast.stmt, before: bool, needed: set[str]) -> bool:
    """Whether a statement is part of the answer; ``before`` the needed names are all defined."""
    if isinstance(node, _ALWAYS):
        return True
    calls = [one.func for one in ast.walk(node) if isinstance(one, ast.Call)]
    called = {one.id for one in calls if isinstance(one, ast.Name)}
    if isinstance(node, _ASSIGNMENT):
        return not called & {"input", *needed} if before else not calls
    if isinstance(node, ast.Expr):
        return any(isinstance(one, ast.Attribute) and one.attr == "setrecursionlimit" for one in calls)
    used = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return before and isinstance(node, ast.If | ast.For | ast.With) and not used & {"__name__", "input", *needed}


def _complete(source: str, needed: set[str]) -> set[str]:
    """Those of ``needed`` that ``source`` defines in full."""
    return {
        name
        for node in _parsed(source)
        if not isinstance(node, _FUNCTION) or _has_body(node)
        for name in _names(node) & needed
    }


def _names(node: ast.stmt | ast.excepthandler) -> set[str]:
    """Names that a statement defines."""
    if isinstance(node, (*_FUNCTION, ast.ClassDef)):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, _ASSIGNMENT):
        return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    inner = [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.stmt | ast.excepthandler)]
    return {name for one in inner for name in _names(one)}


def _has_body(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function does anything: more than a docstring, a bare name, or itself once more."""
    return any(
        not isinstance(one, ast.Pass)
        and not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant | ast.Name))
        and not (isinstance(one, _FUNCTION) and one.name == node.name)
        for one in node.body
    )


def _preamble(prompt: str, needed: set[str]) -> str:
    """What ``prompt`` has before the function that it begins: imports, helpers."""
    starts = [match.start() for name in needed for match in re.finditer(rf"(?m)^(?:async )?def {name}\b", prompt)]
    return prompt[: min(starts)] if starts else ""


def _join(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)
