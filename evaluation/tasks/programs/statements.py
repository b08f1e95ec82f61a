"""Split a program into statements, and select those that a few names need."""

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
_INTERACTIVE = {"input", "exit", "quit", "breakpoint", "__name__"}
_COMPREHENSIONS = ("listcomp", "setcomp", "dictcomp", "genexpr")
STUB, TRIVIAL, REAL = 0, 1, 2
"""Worth of a definition: does nothing, only returns None, or does something."""
MAX_STATEMENTS = 300
"""Of a part of an answer; the longest programs of the benchmarks have 30."""
PROMPT = -1
"""Part number of the prompt, which belongs to every program."""
DEFINITION, IMPORT, VALUE, CHANGE = "definition", "import", "value", "change"
"""Kinds of statements. A change modifies a value defined elsewhere: ``table[1] = 2``, ``total += 1``."""


@dataclass(eq=False)
class Statement:
    """A statement of a program.

    Attributes:
        kind: one of those above.
        text: its source, whole lines.
        part: number of its part of the answer.
        binds: names that it defines or changes.
        line: its last line in the source.
        now: names used when it runs.
        later: names used when its functions are called.
        sets: global names assigned when its functions are called.
        calls: the function that it calls, if it is a plain call, else "".
        worth: of a definition.
        methods: of a class, those that are not stubs.
        kept: it belongs to every program that uses its part.
        leads: it must come first.
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
    """The statements of a program that compiles; those that define nothing are omitted."""
    lines, body = source.split("\n"), parsed(source).body[:MAX_STATEMENTS]
    starts = [min([node.lineno, *(child.lineno for child in getattr(node, "decorator_list", []))]) for node in body]
    ends = [node.end_lineno or node.lineno for node in body]
    found = []
    for place, (node, start, end) in enumerate(zip(body, starts, ends, strict=True)):
        text = "".join(line + "\n" for line in lines[start - 1 : end])
        if start in ends[:place][-1:] or end in starts[place + 1 :][:1]:  # shares a line with another
            text = _cut(lines[start - 1 : end], node)
        statement = _statement(node, text, part)
        if statement is not None:
            statement.line = end
            found.append(statement)
    return found


def _cut(lines: list[str], node: ast.stmt) -> str:
    """A statement without its neighbours on the same lines; columns count bytes."""
    lines[-1] = lines[-1].encode()[: node.end_col_offset].decode()
    lines[0] = lines[0].encode()[node.col_offset :].decode()
    return "\n".join(lines) + "\n"


def program(pool: list[Statement], needed: set[str], main: int, loose: set[int]) -> list[Statement]:
    """The statements that define ``needed``, with everything that they use.

    Args:
        pool: statements of all parts, in order.
        needed: names.
        main: the part that is searched first.
        loose: parts that may continue with other problems: the first of several versions counts there, not the last.

    Returns:
        The statements in an order in which they can run; empty if no name is defined.
    """
    return _Selection(pool, needed, main, loose).program()


def worths(found: Iterable[Statement], needed: set[str]) -> dict[str, int]:
    """Those of ``needed`` that are defined and not stubs, with their worth."""
    best: dict[str, int] = {}
    for statement in found:
        if statement.worth > STUB and statement.kind != CHANGE:
            best |= {name: max(best.get(name, 0), statement.worth) for name in statement.binds & needed}
    return best


class _Selection:
    def __init__(self, pool: list[Statement], needed: set[str], main: int, loose: set[int]) -> None:
        self._pool, self._needed, self._main, self._loose = pool, needed, main, loose
        self._binders: dict[str, list[Statement]] = {}
        sets = {name: item.sets for item in pool if item.kind == DEFINITION for name in item.binds}
        for statement in pool:
            for name in statement.binds | sets.get(statement.calls, set()):
                self._binders.setdefault(name, []).append(statement)
        self._rivals = {item.part for item in pool if item.binds & needed and item.kind != CHANGE} - {main}
        self._names: dict[tuple[str, int], list[Statement]] = {}

    def program(self) -> list[Statement]:
        chosen: set[Statement] = set()
        self._take([item for name in sorted(self._needed) for item in self._versions(name, self._main)], chosen)
        if not chosen:
            return []
        parts = {PROMPT, *(statement.part for statement in chosen)}
        self._take([item for item in self._pool if item.kept and item.part in parts], chosen)
        done: dict[Statement, None] = {}
        for statement in self._pool:
            if statement in chosen:
                self._place(statement, done)
        return sorted(done, key=lambda item: not item.leads)

    def _take(self, waiting: list[Statement], chosen: set[Statement]) -> None:
        """Choose statements, with those that define what they use."""
        while waiting:
            item = waiting.pop()
            if item not in chosen:
                chosen.add(item)
                for name in item.now | item.later:
                    waiting += self._versions(name, item.part)

    def _versions(self, name: str, home: int) -> list[Statement]:
        """The statements that define a name, as seen from a part."""
        if (name, home) not in self._names:
            self._names[name, home] = self._find_versions(name, home)
        return self._names[name, home]

    def _find_versions(self, name: str, home: int) -> list[Statement]:
        binders = self._binders.get(name, [])
        defining = [item for item in binders if item.kind != CHANGE]
        if name in self._needed:
            defining = [item for item in defining if item.worth > STUB and not _is_example(item, name)]
        else:
            defining = defining or [item for item in binders if name not in item.binds]  # set by a call: setup()
        if not defining:
            return []
        best = max(item.worth for item in defining)
        parts = [item.part for item in defining if item.worth == best]
        part = home if home in parts else parts[-1]
        if name not in self._needed and home == part and home not in self._loose:
            corrected = [item.part for item in defining if item.kind == DEFINITION and item.worth == best]
            part = max([home, *(other for other in corrected if other not in self._loose | self._rivals)])
        here = [item for item in defining if item.part == part]
        changes = [item for item in binders if item.part == part and item.kind == CHANGE]
        definitions = [item for item in here if item.kind == DEFINITION and item.worth == best]
        if definitions:
            chosen = definitions[0 if part in self._loose else -1]
            wrapped = [item for item in here if item.kind == VALUE and name in item.now]  # name = cached(name)
            return [chosen, *wrapped, *(item for item in changes if item.worth > STUB)]
        return here if all(item.kind == IMPORT for item in here) else here + changes

    def _place(self, statement: Statement, done: dict[Statement, None]) -> None:
        """Add a statement after everything used when it runs."""
        begun = {statement}
        stack = [(statement, iter(self._before(statement)))]
        while stack:
            current, before = stack[-1]
            following = next(before, None)
            if following is None:
                done[current] = None
                stack.pop()
            elif following not in done and following not in begun:
                begun.add(following)
                stack.append((following, iter(self._before(following))))

    def _before(self, statement: Statement) -> list[Statement]:
        """Everything used when a statement runs, including what the functions it calls use."""
        found: set[Statement] = set()
        names = {(name, statement.part) for name in statement.now}
        waiting, seen = list(names), set(names)
        while waiting:
            for item in self._versions(*waiting.pop()):
                found.add(item)
                more = {(name, item.part) for name in item.now | item.later} - seen
                seen |= more
                waiting += more
        return [item for item in self._pool if item in found and item is not statement] if found else []


def _is_example(statement: Statement, name: str) -> bool:
    """Whether this is ``name = name(1, 2)``, which would hide the function."""
    if statement.kind != VALUE or name not in statement.now:
        return False
    value = getattr(parsed(statement.text).body[0], "value", None)
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == name


def _statement(node: ast.stmt, text: str, part: int) -> Statement | None:
    """Analyse a statement; None if it defines nothing."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return _import(node, text, part)
    if isinstance(node, _DEFINITION):
        found = Statement(DEFINITION, text, part, {node.name}, worth=_worth(node))
        if isinstance(node, ast.ClassDef):
            found.methods = {child.name for child in node.body if isinstance(child, FUNCTION) and _worth(child) > STUB}
    elif isinstance(node, (*_ASSIGNMENT, *_BLOCK)):
        names = bound(node)
        kind = VALUE if names and not isinstance(node, ast.AugAssign) else CHANGE
        found = Statement(kind, text, part, names | _changed(node))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not _is_built_in(node.value.func):
        found = Statement(CHANGE, text, part, _changed(node), worth=STUB)
        found.calls = getattr(node.value.func, "id", "")
        found.kept = getattr(node.value.func, "attr", "") == "setrecursionlimit"
    else:
        return None
    found.now, found.later, found.sets = _used(text)
    return None if isinstance(node, (*_BLOCK, ast.Expr)) and found.now & _INTERACTIVE else found


def _import(node: ast.Import | ast.ImportFrom, text: str, part: int) -> Statement:
    names = {alias.asname or alias.name.split(".")[0] for alias in node.names}
    module = (getattr(node, "module", None) or node.names[0].name).split(".")[0]
    leads = module == "__future__"
    kept = leads or ("*" in names and module in sys.stdlib_module_names)
    worth = REAL if module in sys.stdlib_module_names else TRIVIAL  # another module may stand for this very answer
    return Statement(IMPORT, text, part, names, worth=worth, kept=kept, leads=leads)


def _worth(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """Whether a definition does something."""
    body = [child for child in node.body if not _is_empty(child, node.name)]
    if isinstance(node, ast.ClassDef):
        methods = [_worth(child) for child in body if isinstance(child, _DEFINITION)]
        return TRIVIAL if not body or (len(methods) == len(body) and max(methods) == STUB) else REAL
    if not body or _is_refusal(body[0]):
        return STUB
    alone = body[0] if len(body) == 1 else None
    if isinstance(alone, ast.Return) and (alone.value is None or _is_nothing(alone.value)):
        return TRIVIAL
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
    """Names that a statement or program binds, outside of functions."""
    found: set[str] = set()
    waiting = [node]
    while waiting:
        child = waiting.pop()
        if isinstance(child, _DEFINITION):
            found.add(child.name)
        elif isinstance(child, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.split(".")[0] for alias in child.names}
        elif isinstance(child, ast.Name):
            found |= {child.id} if isinstance(child.ctx, ast.Store) else set()
        elif not isinstance(child, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            waiting += ast.iter_child_nodes(child)
    return found


def _changed(node: ast.AST) -> set[str]:
    """Names of values a statement may change: ``table[1] = 2``, ``table.update(more)``, ``x.y = 3``, ``fill(rows)``."""
    found = set()
    for child in ast.walk(node):
        places: list[ast.expr] = []
        if isinstance(child, ast.Subscript | ast.Attribute) and isinstance(child.ctx, ast.Store):
            places = [child.value]
        elif isinstance(child, ast.Expr) and isinstance(child.value, ast.Call) and not _is_built_in(child.value.func):
            owner = [child.value.func] if isinstance(child.value.func, ast.Attribute) else []
            places = [*owner, *child.value.args]
        for place in places:
            while isinstance(place, ast.Subscript | ast.Attribute):
                place = place.value
            if isinstance(place, ast.Name):
                found.add(place.id)
    return found


def _is_built_in(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and hasattr(builtins, node.id)


def _used(text: str) -> tuple[set[str], set[str], set[str]]:
    """Global names: used when a statement runs, used by its functions when called, and assigned by these."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        top = symtable.symtable(text, "<answer>", "exec")
    now = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    later: set[str] = set()
    sets: set[str] = set()
    waiting = [(child, now) for child in top.get_children()]
    while waiting:
        table, names = waiting.pop()
        # comprehensions run with their surroundings, functions when called
        is_called = table.get_type() == "function" and table.get_name() not in _COMPREHENSIONS
        into = later if is_called else names
        into |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced()}
        into |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_declared_global()}
        sets |= {
            symbol.get_name() for symbol in table.get_symbols() if symbol.is_declared_global() and symbol.is_assigned()
        }
        waiting += [(child, into) for child in table.get_children()]
    return now, later, sets


def parsed(source: str) -> ast.Module:
    """`ast.parse` without warnings about invalid escapes and the like."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)
