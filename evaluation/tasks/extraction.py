"""Extract the program from an answer, for all tasks scored by running code.

Models wrap code in prose and fences, repeat the prompt, stop in the middle of a line, or continue with the next
problem. `extract` finds the functions that the tests call, with everything that these use. Nothing is run here.
"""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from collections.abc import Iterator

from evaluation.tasks.answer_parts import Part, parts_of
from evaluation.tasks.programs.statements import (
    DEFINITION,
    MAX_STATEMENTS,
    PROMPT,
    VALUE,
    Statement,
    bound,
    parsed,
    program,
    statements,
    worths,
)

_MAX_COMPILED = 200_000  # characters for one answer; a usual one takes 20,000
_MAX_DEPTH = 200  # of the syntax tree; Python's time and memory grow with its square
_MAX_STARTS = 100  # of stretches of code, in one part
_MARGIN = 4  # spaces before a body, in the prompts
_MAX_TRIES = 5  # for the end of a stretch of code; errors name their line, so two or three usually do
_CODE_BEGINS = re.compile(r"(?:async def|def|class|import|from)\b|@\w|[A-Za-z_]\w*\s*(?::[^=]+)?=[^=]")
_LINE_BEGINS = re.compile(r"[A-Za-z_@(\[]")


def extract(raw: str, needed: set[str], prompt: str = "") -> str:
    """Find a program in ``raw`` that defines ``needed``.

    The first of these that defines all names, else the one that defines most of them:

    1. the text before the first fence, continuing the function that ``prompt`` begins;
    2. the code in ``raw`` on its own, fenced or not;
    3. a method of a class, if there is no such function;
    4. a fenced block, continuing the function that ``prompt`` begins;
    5. as 1 and 4, with the indentation of the first line or of all lines corrected.

    The program has the needed definitions and, from all blocks, the imports, functions, classes and values that they
    use. Of several versions a real one beats a stub, one in an answer that begins with code beats others, and then the
    last wins; in text without fences, which may continue with another problem, the first. Prints, assertions, calls
    without effect on what is used, blocks of other languages and thoughts are dropped.

    Args:
        raw: everything generated, special tokens included.
        needed: names that the tests use.
        prompt: Python source to continue; "" if the whole program was asked for.

    Returns:
        Source of the program, with what it needs of ``prompt``; "" if no name is defined.
    """
    best = (0, "")
    try:
        readings = [parts_of(raw, careful) for careful in (True, False)]
        for parts in readings if readings[0] != readings[1] else readings[:1]:
            best = max(best, _Search(parts, needed, prompt).best(), key=lambda candidate: candidate[0])
            if best[0] == len(needed):
                break
    except (RecursionError, MemoryError):  # nested too deep for Python
        pass
    return best[1]


def names_used(tests: str) -> set[str]:
    """Names that tests use and do not define; built-ins only if they use no others."""
    tree = parsed(tests)
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    used = {node.id for node in named} - {node.id for node in named if isinstance(node.ctx, ast.Store)} - bound(tree)
    return used - set(dir(builtins)) or used  # MBPP has a function named sum


class _Search:
    """The candidates for the program in one reading of an answer, which has at least one part."""

    def __init__(self, parts: list[Part], needed: set[str], prompt: str) -> None:
        self._parts, self._needed, self._prompt = parts, needed, prompt
        self._compile_budget = _MAX_COMPILED
        head = _preamble(prompt, needed)
        self._head_lines = head.count("\n")
        self._head = self._read(head, PROMPT)
        for statement in self._head:
            statement.kept = True
        self._whole: list[bool] = []
        self._pools = [self._pieces(part, number) for number, part in enumerate(self._parts)]

    def best(self) -> tuple[int, str]:
        """How many names are defined, and the program."""
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
        """The prompt continued with ``lines``."""
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
        """The code of the answer on its own, after what precedes the function in the prompt."""

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
        """Methods with the names of the functions, of a class that is created without arguments."""
        classes = {name: item for pool in self._pools for item in pool for name in item.methods & self._needed}
        names = {name for item in classes.values() for name in item.binds}
        found = self._alone(names) if names else []
        if not found:
            return []
        made = [(name, item.binds) for name, item in sorted(classes.items())]
        return found + [Statement(VALUE, f"{name} = {item}().{name}\n", 0, {name}) for name, (item,) in made]

    def _program(self, pools: list[list[Statement]], needed: set[str], main: int, loose: set[int]) -> list[Statement]:
        loose = loose | {at for at, part in enumerate(self._parts) if not (part.fenced and self._whole[at])}
        return program([*self._head, *(statement for pool in pools for statement in pool)], needed, main, loose)

    def _pieces(self, part: Part, number: int) -> list[Statement]:
        """The statements of a part; text between stretches of Python is skipped."""
        lines, place, ended, starts = part.lines, 0, 0, 0
        found: list[Statement] = []
        margin = min((len(line) - len(line.lstrip()) for line in lines if _CODE_BEGINS.match(line.lstrip())), default=0)
        lines = [line[margin:] if not line[:margin].strip() else line for line in lines]
        begins = _LINE_BEGINS if part.fenced else _CODE_BEGINS
        while place < len(lines) and starts < _MAX_STARTS and len(found) < MAX_STATEMENTS:
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
        """How many leading ``lines`` compile after ``head``."""
        kept, before = len(lines), head.count("\n")
        for _ in range(_MAX_TRIES):
            if kept <= 0 or self._compile_budget <= 0:
                break
            line = self._wrong_line(head + _join(lines[:kept]))
            if line is None:
                return kept
            # a prefix with the line of the error has the same error
            kept = min(kept - 1, line - before - 1)
        return 0

    def _wrong_line(self, source: str) -> int | None:
        """The line of the first error in ``source``; None if it compiles."""
        self._compile_budget -= len(source)
        if self._compile_budget < 0:
            return 0
        try:
            if deep := _too_deep(parsed(source)):
                return deep
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(source, "<answer>", "exec", dont_inherit=True)
        except SyntaxError as error:
            return error.lineno or source.count("\n")
        except (ValueError, RecursionError, MemoryError, OverflowError):  # null bytes, nesting far too deep
            return source.count("\n")
        return None

    def _read(self, source: str, number: int) -> list[Statement]:
        return statements(source, number) if self._wrong_line(source) is None else []


def _too_deep(tree: ast.Module) -> int:
    """The line of a statement nested too deep; 0 if there is none."""
    for statement in tree.body:
        level: list[ast.AST] = [statement]
        for _ in range(_MAX_DEPTH):
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
    """``lines`` indented as a body: the first one alone, or all together."""
    lines = [_spaced(line) for line in _join(lines).strip("\n").split("\n")]
    first = lines[0].lstrip(" ")
    margin = len(lines[0]) - len(first)
    if margin == _MARGIN or re.match(r"$|@|(?:async def|def|class)\b", first):  # indented already, or no body
        return []
    moved = [line[margin:] if not line[:margin].strip() else line for line in lines]
    return [[" " * _MARGIN + first, *lines[1:]], [" " * _MARGIN + line for line in moved]]


def _spaced(line: str) -> str:
    """A line indented with spaces, as the prompts are."""
    rest = line.lstrip(" \t")
    return line[: len(line) - len(rest)].expandtabs(4) + rest


def _preamble(prompt: str, needed: set[str]) -> str:
    """What precedes the function in ``prompt``: imports, helpers."""
    starts = [match.start() for name in needed for match in re.finditer(rf"(?m)^(?:async )?def {name}\b", prompt)]
    return prompt[: min(starts)] if starts else ""


def _join(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)
