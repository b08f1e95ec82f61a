"""The program in what a model generated: one function for all tasks that are scored by running code.

Models wrap code in prose and fences, say the prompt again, stop in the middle of a line, or go on with the next
problem. `extract` finds the functions that the tests call, and what these use, and leaves the rest behind. It only
reads text: nothing is run here.
"""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from collections.abc import Iterator

from evaluation.tasks.answer_parts import Part, parts_of
from evaluation.tasks.programs.statements import (
    BEFORE,
    DEFINITION,
    MOST_STATEMENTS,
    VALUE,
    Statement,
    bound,
    parsed,
    program,
    statements,
    worths,
)

_MOST_COMPILED = 200_000
"""Characters that are compiled in search of an answer's code; a usual answer takes 20,000."""
_MOST_DEPTH = 200
"""Levels of statements and expressions within each other; Python takes time and memory that grow with their square."""
_MOST_STARTS = 100
_MARGIN = 4  # of a body, in the prompts
_TRIES = 5  # for the end of a stretch of code; errors name their line, so that two or three are the rule
_CODE_BEGINS = re.compile(r"(?:async def|def|class|import|from)\b|@\w|[A-Za-z_]\w*\s*(?::[^=]+)?=[^=]")
_LINE_BEGINS = re.compile(r"[A-Za-z_@(\[]")


def extract(raw: str, needed: set[str], prompt: str = "") -> str:
    """A program that defines ``needed``, as far as ``raw`` has one.

    In this order, the first that defines all names (else the one that defines most of them):

    1. what comes before the first fence, as the rest of the function that ``prompt`` begins;
    2. the code in ``raw`` by itself, fenced or not;
    3. a method of a class, where there is no such function;
    4. a fenced block, as the rest of the function that ``prompt`` begins;
    5. the rest of the function with another indentation, or none, on the first line or on all.

    Names are followed: of all blocks those imports, functions, classes and values are taken that the needed ones use,
    and their own. Of several versions one that does something counts before a stub, that of an answer that begins with
    code before others, and else the last; in text without fences, which may go on with another problem, the first.
    Prints, assertions, calls that change nothing that is used, and blocks of other languages are left out, as are
    thoughts.

    Args:
        raw: everything generated, special tokens included.
        needed: names that the tests use.
        prompt: Python source that was to be continued; "" where the whole program was asked for.

    Returns:
        Source of the program, what it needs of ``prompt`` included; "" if none of the names is defined.
    """
    best = (0, "")
    try:
        readings = [parts_of(raw, careful) for careful in (True, False)]
        for parts in readings if readings[0] != readings[1] else readings[:1]:
            best = max(best, _Search(parts, needed, prompt).found(), key=lambda one: one[0])
            if best[0] == len(needed):
                break
    except (RecursionError, MemoryError):  # nested so deep that Python can't read it
        pass
    return best[1]


def names_used(tests: str) -> set[str]:
    """Names that a test program uses and does not define itself; built-in ones only where it uses no others."""
    tree = parsed(tests)
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    used = {node.id for node in named} - {node.id for node in named if isinstance(node.ctx, ast.Store)} - bound(tree)
    return used - set(dir(builtins)) or used  # one problem of MBPP asks for a function named sum


class _Search:
    """The ways to find the program in one reading of an answer.

    Args:
        parts: of the answer, one at least.
        needed, prompt: as of `extract`.
    """

    def __init__(self, parts: list[Part], needed: set[str], prompt: str) -> None:
        self._parts, self._needed, self._prompt = parts, needed, prompt
        self._left = _MOST_COMPILED
        head = _preamble(prompt, needed)
        self._head_lines = head.count("\n")
        self._head = self._read(head, BEFORE)
        for statement in self._head:
            statement.kept = True
        self._whole: list[bool] = []
        self._pools = [self._pieces(part, number) for number, part in enumerate(self._parts)]

    def found(self) -> tuple[int, str]:
        """How many of the names are defined, and the program."""
        best = (0, "")
        for candidate in self._candidates():
            known = worths(candidate, self._needed)
            if len(known) > best[0]:
                best = (len(known), _text(candidate))
            if len(known) == len(self._needed):
                break
        return best

    def _candidates(self) -> Iterator[list[Statement]]:
        first, *others = self._parts
        yield self._continued(first.lines, 0)
        yield self._alone(self._needed)
        yield self._methods()
        for number, part in enumerate(others, start=1):
            yield self._continued(part.lines, number)
        for number, part in enumerate(self._parts):
            for lines in _indented(part.lines):
                yield self._continued(lines, number)

    def _continued(self, lines: list[str], number: int) -> list[Statement]:
        """The program that begins with the prompt and goes on with ``lines``."""
        first = next((line for line in lines if line.strip()), "")
        if not self._prompt or not first.startswith((" ", "\t")):
            return []
        head = self._prompt if self._prompt.endswith("\n") else self._prompt + "\n"
        spaced = [_spaced(line) for line in lines]
        count = self._longest(head, spaced)
        whole = self._read(head + _join(spaced[:count]), number)
        own = [statement for statement in whole if statement.line > self._head_lines]
        rest = self._pieces(Part(lines[count:], False, True), number)
        pools = [own + rest if at == number else pool for at, pool in enumerate(self._pools)]
        return self._program(pools, self._needed, number, {number})

    def _alone(self, needed: set[str]) -> list[Statement]:
        """The code of the answer by itself, after what the prompt has before its function."""

        def weight(number: int) -> tuple[int, int, int]:
            part, pool = self._parts[number], self._pools[number]
            known = sum(worths(pool, needed).values())
            first = next((line.strip() for line in part.lines if line.strip()), "")
            if number == 0 and _CODE_BEGINS.match(first):
                return known, 3, 0
            return known, (1 + self._whole[number]) * part.fenced, number if part.fenced else -number

        main = max(range(len(self._parts)), key=weight)
        return self._program(self._pools, needed, main, set())

    def _methods(self) -> list[Statement]:
        """Methods that are named like the functions, of a class that can be made without arguments."""
        classes = {name: one for pool in self._pools for one in pool for name in one.methods & self._needed}
        names = {name for one in classes.values() for name in one.binds}
        found = self._alone(names) if names else []
        if not found:
            return []
        made = [(name, one.binds) for name, one in sorted(classes.items())]
        return found + [Statement(VALUE, f"{name} = {one}().{name}\n", 0, {name}) for name, (one,) in made]

    def _program(self, pools: list[list[Statement]], needed: set[str], main: int, loose: set[int]) -> list[Statement]:
        loose = loose | {at for at, part in enumerate(self._parts) if not (part.fenced and self._whole[at])}
        return program([*self._head, *(one for pool in pools for one in pool)], needed, main, loose)

    def _pieces(self, part: Part, number: int) -> list[Statement]:
        """The statements of a part; what is between stretches of Python is passed over."""
        lines, place, ended, starts = part.lines, 0, 0, 0
        found: list[Statement] = []
        margin = min((len(line) - len(line.lstrip()) for line in lines if _CODE_BEGINS.match(line.lstrip())), default=0)
        lines = [line[margin:] if not line[:margin].strip() else line for line in lines]
        begins = _LINE_BEGINS if part.fenced else _CODE_BEGINS
        while place < len(lines) and starts < _MOST_STARTS and len(found) < MOST_STATEMENTS:
            is_start = bool(begins.match(lines[place]))
            starts += is_start
            count = self._longest("", lines[place:]) if is_start else 0
            if count:
                found += self._read(_join(lines[place : place + count]), number)
                ended = place + count
            place += max(count, 1)
        if len(self._whole) == number:
            self._whole.append(part.closed or not "".join(lines[ended:]).strip())
        return found

    def _longest(self, head: str, lines: list[str]) -> int:
        """How many of ``lines``, from the first on, make a program after ``head``."""
        kept, before = len(lines), head.count("\n")
        for _ in range(_TRIES):
            if kept <= 0 or self._left <= 0:
                break
            line = self._wrong_line(head + _join(lines[:kept]))
            if line is None:
                return kept
            # a beginning that still holds the line of the error has the same error
            kept = min(kept - 1, line - before - 1)
        return 0

    def _wrong_line(self, source: str) -> int | None:
        """The line of the first error that keeps ``source`` from compiling; None where it compiles."""
        self._left -= len(source)
        if self._left < 0:
            return 0
        try:
            if deep := _too_deep(parsed(source)):
                return deep
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(source, "<answer>", "exec", dont_inherit=True)
        except SyntaxError as error:
            return error.lineno or source.count("\n")
        except (ValueError, RecursionError, MemoryError, OverflowError):  # null bytes, far too deep nesting
            return source.count("\n")
        return None

    def _read(self, source: str, number: int) -> list[Statement]:
        return statements(source, number) if self._wrong_line(source) is None else []


def _too_deep(tree: ast.Module) -> int:
    """The line of a statement that goes too deep; 0 where none does."""
    for statement in tree.body:
        level: list[ast.AST] = [statement]
        for _ in range(_MOST_DEPTH):
            level = [child for node in level for child in ast.iter_child_nodes(node)]
            if not level:
                break
        if level:
            return statement.lineno
    return 0


def _text(found: list[Statement]) -> str:
    text = ""
    for statement in found:
        text += ("\n" if text and statement.kind == DEFINITION else "") + statement.text
    return text


def _indented(lines: list[str]) -> list[list[str]]:
    """``lines`` with the indentation of a body: the first one alone, and all of them moved together."""
    lines = [_spaced(line) for line in _join(lines).strip("\n").split("\n")]
    first = lines[0].lstrip(" ")
    margin = len(lines[0]) - len(first)
    if margin == _MARGIN or re.match(r"$|@|(?:async def|def|class)\b", first):  # there is nothing to move, or no body
        return []
    moved = [line[margin:] if not line[:margin].strip() else line for line in lines]
    return [[" " * _MARGIN + first, *lines[1:]], [" " * _MARGIN + line for line in moved]]


def _spaced(line: str) -> str:
    """A line whose indentation is of spaces, as that of the prompts is."""
    rest = line.lstrip(" \t")
    return line[: len(line) - len(rest)].expandtabs(4) + rest


def _preamble(prompt: str, needed: set[str]) -> str:
    """What ``prompt`` has before the function that it begins: imports, helpers."""
    starts = [match.start() for name in needed for match in re.finditer(rf"(?m)^(?:async )?def {name}\b", prompt)]
    return prompt[: min(starts)] if starts else ""


def _join(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)
