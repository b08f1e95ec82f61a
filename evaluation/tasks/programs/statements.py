"""Statements of a program by the names that they define and use, and the program that a few names need."""

from __future__ import annotations

import ast
import builtins
import symtable
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITION = (*FUNCTION, ast.ClassDef)
_ASSIGNMENT = (ast.Assign, ast.AnnAssign, ast.AugAssign)
_BLOCK = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)
_ASKS = {"input", "exit", "quit", "breakpoint", "__name__"}
_COMPREHENSIONS = ("listcomp", "setcomp", "dictcomp", "genexpr")
NOTHING, LITTLE, REAL = 0, 1, 2
"""What a definition does: nothing (a stub), no more than return None, or something."""
MOST_STATEMENTS = 300
"""Of a part of an answer; the longest programs of the benchmarks have 30."""
BEFORE = -1
"""Number of the part that comes before an answer, and is in every program of it."""
DEFINITION, IMPORT, VALUE, CHANGE = "definition", "import", "value", "change"
"""Kinds of statements. A change is made to what another one has given a name: ``table[1] = 2``, ``total += 1``."""


@dataclass(eq=False)
class Statement:
    """A statement of a program.

    Attributes:
        kind: one of those above.
        text: its source, whole lines.
        part: number of the part of the answer that it stands in.
        binds: names that it defines or changes.
        line: where it ends in the source.
        now: names that it uses when it is run.
        later: names that the functions in it use when they are called.
        sets: names of the module that the functions in it give a value when they are called.
        calls: the function that it calls, where it is nothing but a call; "" of others.
        worth: what it does, of definitions.
        methods: of a class, those that are no stubs.
        kept: whether it belongs to a program that uses anything of its part.
        leads: whether it must come before all others.
    """

    kind: str
    text: str
    part: int
    binds: set[str]
    line: int = 0
    now: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)
    sets: set[str] = field(default_factory=set)
    calls: str = ""
    worth: int = REAL
    methods: set[str] = field(default_factory=set)
    kept: bool = False
    leads: bool = False


def statements(source: str, part: int) -> list[Statement]:
    """The statements of a program that compiles, without those that define nothing."""
    lines, body = source.split("\n"), parsed(source).body[:MOST_STATEMENTS]
    starts = [min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))]) for node in body]
    ends = [node.end_lineno or node.lineno for node in body]
    found = []
    for place, (node, start, end) in enumerate(zip(body, starts, ends, strict=True)):
        text = "".join(line + "\n" for line in lines[start - 1 : end])
        if start in ends[:place][-1:] or end in starts[place + 1 :][:1]:  # it shares a line with another
            text = _stretch(lines[start - 1 : end], node)
        statement = _statement(node, text, part)
        if statement is not None:
            statement.line = end
            found.append(statement)
    return found


def _stretch(lines: list[str], node: ast.stmt) -> str:
    """What of its lines belongs to a statement; Python counts bytes."""
    lines[-1] = lines[-1].encode()[: node.end_col_offset].decode()
    lines[0] = lines[0].encode()[node.col_offset :].decode()
    return "\n".join(lines) + "\n"


def program(pool: list[Statement], needed: set[str], main: int, loose: set[int]) -> list[Statement]:
    """The statements that define ``needed``, and what they use in turn.

    Args:
        pool: of all parts, in order.
        needed: names.
        main: the part that is asked first; others have what it lacks.
        loose: parts that may go on with something else, so that the first of several versions counts, not the last.

    Returns:
        In an order in which they can be run; empty where there is none of the names.
    """
    return _Program(pool, needed, main, loose).found()


def worths(found: Iterable[Statement], needed: set[str]) -> dict[str, int]:
    """Those of ``needed`` that do something, with how much."""
    there: dict[str, int] = {}
    for statement in found:
        if statement.worth > NOTHING and statement.kind != CHANGE:
            there |= {name: max(there.get(name, 0), statement.worth) for name in statement.binds & needed}
    return there


class _Program:
    def __init__(self, pool: list[Statement], needed: set[str], main: int, loose: set[int]) -> None:
        self._pool, self._needed, self._main, self._loose = pool, needed, main, loose
        self._binders: dict[str, list[Statement]] = {}
        sets = {name: one.sets for one in pool if one.kind == DEFINITION for name in one.binds}
        for statement in pool:
            for name in statement.binds | sets.get(statement.calls, set()):
                self._binders.setdefault(name, []).append(statement)
        self._rivals = {one.part for one in pool if one.binds & needed and one.kind != CHANGE} - {main}
        self._names: dict[tuple[str, int], list[Statement]] = {}

    def found(self) -> list[Statement]:
        chosen: set[Statement] = set()
        self._take([one for name in sorted(self._needed) for one in self._versions(name, self._main)], chosen)
        if not chosen:
            return []
        parts = {BEFORE, *(statement.part for statement in chosen)}
        self._take([one for one in self._pool if one.kept and one.part in parts], chosen)
        done: dict[Statement, None] = {}
        for statement in self._pool:
            if statement in chosen:
                self._put(statement, done)
        return sorted(done, key=lambda one: not one.leads)

    def _take(self, waiting: list[Statement], chosen: set[Statement]) -> None:
        """Choose statements, and those that define what they use."""
        while waiting:
            one = waiting.pop()
            if one not in chosen:
                chosen.add(one)
                for name in one.now | one.later:
                    waiting += self._versions(name, one.part)

    def _versions(self, name: str, home: int) -> list[Statement]:
        """The statements that make a name what it is, as seen from a part."""
        if (name, home) not in self._names:
            self._names[name, home] = self._looked_up(name, home)
        return self._names[name, home]

    def _looked_up(self, name: str, home: int) -> list[Statement]:
        binders = self._binders.get(name, [])
        there = [one for one in binders if one.kind != CHANGE]
        if name in self._needed:
            there = [one for one in there if one.worth > NOTHING and not _is_example(one, name)]
        else:
            there = there or [one for one in binders if name not in one.binds]  # set by a call: setup()
        if not there:
            return []
        best = max(one.worth for one in there)
        parts = [one.part for one in there if one.worth == best]
        part = home if home in parts else parts[-1]
        if name not in self._needed and home == part and home not in self._loose:
            corrected = [one.part for one in there if one.kind == DEFINITION and one.worth == best]
            part = max([home, *(one for one in corrected if one not in self._loose | self._rivals)])
        here = [one for one in there if one.part == part]
        changes = [one for one in binders if one.part == part and one.kind == CHANGE]
        definitions = [one for one in here if one.kind == DEFINITION and one.worth == best]
        if definitions:
            chosen = definitions[0 if part in self._loose else -1]
            wrapped = [one for one in here if one.kind == VALUE and name in one.now]  # name = cached(name)
            return [chosen, *wrapped, *(one for one in changes if one.worth > NOTHING)]
        return here if all(one.kind == IMPORT for one in here) else here + changes

    def _put(self, statement: Statement, done: dict[Statement, None]) -> None:
        """A statement, after all that is used while it is run."""
        begun = {statement}
        waiting = [(statement, iter(self._before(statement)))]
        while waiting:
            one, before = waiting[-1]
            following = next(before, None)
            if following is None:
                done[one] = None
                waiting.pop()
            elif following not in done and following not in begun:
                begun.add(following)
                waiting.append((following, iter(self._before(following))))

    def _before(self, statement: Statement) -> list[Statement]:
        """All that is used while a statement is run, with what the functions of it use."""
        found: set[Statement] = set()
        names = {(name, statement.part) for name in statement.now}
        waiting, seen = list(names), set(names)
        while waiting:
            for one in self._versions(*waiting.pop()):
                found.add(one)
                more = {(name, one.part) for name in one.now | one.later} - seen
                seen |= more
                waiting += more
        return [one for one in self._pool if one in found and one is not statement] if found else []


def _is_example(statement: Statement, name: str) -> bool:
    """``name = name(1, 2)``, which would hide the function."""
    if statement.kind != VALUE or name not in statement.now:
        return False
    value = getattr(parsed(statement.text).body[0], "value", None)
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == name


def _statement(node: ast.stmt, text: str, part: int) -> Statement | None:
    """What a statement defines and uses; None where it only does something."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return _import(node, text, part)
    if isinstance(node, _DEFINITION):
        found = Statement(DEFINITION, text, part, {node.name}, worth=_worth(node))
        if isinstance(node, ast.ClassDef):
            found.methods = {one.name for one in node.body if isinstance(one, FUNCTION) and _worth(one) > NOTHING}
    elif isinstance(node, (*_ASSIGNMENT, *_BLOCK)):
        names = bound(node)
        kind = VALUE if names and not isinstance(node, ast.AugAssign) else CHANGE
        found = Statement(kind, text, part, names | _changed(node))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not _is_built_in(node.value.func):
        found = Statement(CHANGE, text, part, _changed(node), worth=NOTHING)
        found.calls = getattr(node.value.func, "id", "")
        found.kept = getattr(node.value.func, "attr", "") == "setrecursionlimit"
    else:
        return None
    found.now, found.later, found.sets = _used(text)
    return None if isinstance(node, (*_BLOCK, ast.Expr)) and found.now & _ASKS else found


def _import(node: ast.Import | ast.ImportFrom, text: str, part: int) -> Statement:
    names = {alias.asname or alias.name.split(".")[0] for alias in node.names}
    module = (getattr(node, "module", None) or node.names[0].name).split(".")[0]
    leads = module == "__future__"
    kept = leads or ("*" in names and module in sys.stdlib_module_names)
    worth = REAL if module in sys.stdlib_module_names else LITTLE  # another may be a name for this very answer
    return Statement(IMPORT, text, part, names, worth=worth, kept=kept, leads=leads)


def _worth(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """What a definition does."""
    body = [one for one in node.body if not _is_empty(one, node.name)]
    if isinstance(node, ast.ClassDef):
        methods = [_worth(one) for one in body if isinstance(one, _DEFINITION)]
        return LITTLE if not body or (len(methods) == len(body) and max(methods) == NOTHING) else REAL
    if not body or _is_refusal(body[0]):
        return NOTHING
    alone = body[0] if len(body) == 1 else None
    if isinstance(alone, ast.Return) and (alone.value is None or _is_nothing(alone.value)):
        return LITTLE
    return REAL


def _is_empty(node: ast.stmt, name: str) -> bool:
    """A docstring, ``pass``, ``...``, a bare name, an import, or the same function begun once more."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant | ast.Name)
    return isinstance(node, ast.Pass | ast.Import | ast.ImportFrom) or (
        isinstance(node, FUNCTION) and node.name == name
    )


def _is_refusal(node: ast.stmt) -> bool:
    """``raise NotImplementedError``, in its spellings."""
    if isinstance(node, ast.Assert):
        return isinstance(node.test, ast.Constant) and not node.test.value
    said = ast.dump(node).lower() if isinstance(node, ast.Raise) else ""
    return any(word in said for word in ("notimplemented", "implement", "todo", "your code"))


def _is_nothing(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return node.value is None or node.value is ...
    return isinstance(node, ast.Name) and node.id == "NotImplemented"


def bound(node: ast.AST) -> set[str]:
    """Names that a statement, or all of a program, gives a value, functions left out."""
    found: set[str] = set()
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, _DEFINITION):
            found.add(one.name)
        elif isinstance(one, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.split(".")[0] for alias in one.names}
        elif isinstance(one, ast.Name):
            found |= {one.id} if isinstance(one.ctx, ast.Store) else set()
        elif not isinstance(one, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            waiting += ast.iter_child_nodes(one)
    return found


def _changed(node: ast.AST) -> set[str]:
    """What a statement may change: ``table[1] = 2``, ``table.update(more)``, ``Node.x = 3``, ``fill(rows)``."""
    found = set()
    for one in ast.walk(node):
        places: list[ast.expr] = []
        if isinstance(one, ast.Subscript | ast.Attribute) and isinstance(one.ctx, ast.Store):
            places = [one.value]
        elif isinstance(one, ast.Expr) and isinstance(one.value, ast.Call) and not _is_built_in(one.value.func):
            places = [one.value.func, *one.value.args] if isinstance(one.value.func, ast.Attribute) else one.value.args
        for place in places:
            while isinstance(place, ast.Subscript | ast.Attribute):
                place = place.value
            if isinstance(place, ast.Name):
                found.add(place.id)
    return found


def _is_built_in(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and hasattr(builtins, node.id)


def _used(text: str) -> tuple[set[str], set[str], set[str]]:
    """Names of the module that a statement uses when it is run, and that its functions use, and set, when called."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        top = symtable.symtable(text, "<answer>", "exec")
    now = {one.get_name() for one in top.get_symbols() if one.is_referenced()}
    later: set[str] = set()
    sets: set[str] = set()
    waiting = [(child, now) for child in top.get_children()]
    while waiting:
        table, names = waiting.pop()
        # a comprehension is run with what it stands in, a function when it is called
        is_called = table.get_type() == "function" and table.get_name() not in _COMPREHENSIONS
        into = later if is_called else names
        into |= {one.get_name() for one in table.get_symbols() if one.is_global() and one.is_referenced()}
        into |= {one.get_name() for one in table.get_symbols() if one.is_declared_global()}
        sets |= {one.get_name() for one in table.get_symbols() if one.is_declared_global() and one.is_assigned()}
        waiting += [(child, into) for child in table.get_children()]
    return now, later, sets


def parsed(source: str) -> ast.Module:
    """A program as Python reads it, without a word about odd escapes and the like."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)
