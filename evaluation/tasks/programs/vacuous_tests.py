"""Tests that say nothing about a program: they assert nothing, or nothing that depends on its functions.

A row with such tests would give every program a score of 1.0. They are found by reading: nothing is run. What is found
is what people leave behind (a stub, a comment, an assertion that is always true, a function that is never called), not
what somebody hides.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable

from evaluation.tasks.programs.static_facts import (
    FUNCTION,
    can_fail,
    ends,
    given,
    is_lazy,
    mentions,
    own,
    stored,
    suppresses,
    swallows,
    truth,
    whole,
)

_SAYS_NOTHING = {"callable", "hasattr", "isinstance", "id", "repr", "type", "bool", "str", "print"}
"""Built-in functions that a function can be given to without being called."""
_MOST_READINGS = 50
_RUNNERS = {"main", "TextTestRunner"}
"""What runs the classes of a test program without naming them."""
_CONTAINERS = {
    "list",
    "tuple",
    "set",
    "frozenset",
    "dict",
    "zip",
    "enumerate",
    "map",
    "filter",
    "sorted",
    "reversed",
    "str",
}
_PARTS = {"items", "keys", "values", "copy"}


def checks_nothing(tests: str, functions: Collection[str]) -> bool:
    """Whether no statement of ``tests`` can fail because of what ``functions`` return.

    Args:
        tests: Python source.
        functions: names of what is tested.
    """
    return not _Reader(ast.parse(tests).body, functions).decides


def checker_problem(tests: str, entry_point: str) -> str | None:
    """What is wrong with a ``check(candidate)`` of HumanEval, as a sentence; None where nothing is."""
    body = ast.parse(tests).body
    found = [node for node in body if isinstance(node, FUNCTION) and node.name == "check"]
    if not found:
        return "'test' has no function check(candidate)"
    (*_, check) = found
    arguments = [*check.args.posonlyargs, *check.args.args]
    if not arguments:
        return "the function check of 'test' takes no argument, so that nothing could pass"
    if is_lazy(check):
        return "calling the function check of 'test' does nothing: it is a coroutine or a generator"
    helpers = {node.name: node for node in body if isinstance(node, FUNCTION)}
    reader = _Reader(check.body, {arguments[0].arg, entry_point}, helpers)
    return None if reader.decides else "'test' asserts nothing about the function: any program would pass"


class _Reader:
    """Follows statements, in order, to one that a function's result can make fail."""

    def __init__(
        self,
        body: list[ast.stmt],
        functions: Collection[str],
        helpers: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] | None = None,
        results: Collection[str] = (),
        above: _Reader | None = None,
    ) -> None:
        self._functions, self._results = set(functions), set(results)
        self._helpers = dict(helpers or {})
        self._classes: dict[str, ast.ClassDef] = {}
        self._empties: set[str] = set()
        self._depth = 0
        self._readings: list[int] = above._readings if above else [0]  # of helpers, counted together
        self.decides = self._block(body)

    def _block(self, body: Iterable[ast.stmt]) -> bool:
        for node in body:
            if self._statement(node):
                return True
            if ends(node):
                return False  # what comes after it is never run
        return False

    def _statement(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.ClassDef):
            self._hide({node.name})
            self._classes[node.name] = node
            return False
        if self._classes and not isinstance(node, FUNCTION):
            named = mentions(node)
            used = [name for name in self._classes if name in named or named & _RUNNERS]
            methods = [one for name in used for one in self._classes.pop(name).body if isinstance(one, FUNCTION)]
            if self._block(one for method in methods for one in method.body):
                return True
        if isinstance(node, ast.Assert):
            return truth(node.test) is None and self._depends(node.test)
        if isinstance(node, FUNCTION):
            self._hide({node.name})
            self._helpers[node.name] = node
            if any(self._depends(one.value) for one in own(node) if isinstance(one, ast.Return) and one.value):
                self._functions.add(node.name)
            return False
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._hide({alias.asname or alias.name for alias in node.names})
            return False
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.For | ast.AsyncFor | ast.With):
            self._bind(node)
        self._touch(node)
        self._depth += 1
        found = self._compound(node)
        self._depth -= 1
        return found

    def _compound(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.If):
            return self._branch(node)
        if isinstance(node, ast.While):
            return truth(node.test) is not False and (self._raises(node) or self._block(node.body))
        if isinstance(node, ast.For | ast.AsyncFor):
            return not self._is_empty(node.iter) and (self._block(node.body) or self._block(node.orelse))
        if isinstance(node, ast.With | ast.AsyncWith):
            return self._expects(node) or (not suppresses(node) and self._block(node.body))
        if isinstance(node, ast.Try):
            return self._tried(node)
        if isinstance(node, ast.Match):
            cases = [one for case in node.cases for one in case.body]
            return (self._depends(node.subject) and can_fail(cases)) or self._block(cases)
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            helper = self._helpers.get(call.func.id)
            if helper and is_lazy(helper):
                return False
        return any(self._call(call) for call in ast.walk(node) if isinstance(call, ast.Call))

    def _tried(self, node: ast.Try) -> bool:
        """What follows a call in ``try`` is reached because of what the function does."""
        if any(isinstance(one, ast.Return | ast.Break | ast.Continue) for one in node.finalbody):
            return False
        swallowed = any(swallows(handler) for handler in node.handlers)
        tried = [*node.body, *node.orelse]
        if not swallowed and (self._block(tried) or (self._calls(node.body) and can_fail(tried))):
            return True
        handled = [one for handler in node.handlers for one in handler.body]
        return self._block(handled) or self._block(node.finalbody)

    def _branch(self, node: ast.If) -> bool:
        known = truth(node.test)
        return (
            (known is None and self._raises(node))
            or (known is not False and self._block(node.body))
            or (known is not True and self._block(node.orelse))
        )

    def _raises(self, node: ast.If | ast.While) -> bool:
        """``if f(1) != 2: raise ...``, or ``assert False``."""
        return can_fail([*node.body, *node.orelse]) and self._depends(node.test)

    def _expects(self, node: ast.With | ast.AsyncWith) -> bool:
        """``with pytest.raises(ValueError): f(1)``"""
        asked = any(
            isinstance(one.context_expr, ast.Call) and "raises" in ast.dump(one.context_expr.func).lower()
            for one in node.items
        )
        return asked and any(self._depends(one) for one in node.body)

    def _call(self, node: ast.Call) -> bool:
        """``numpy.testing.assert_allclose(f(1), 2)``, and functions of the tests themselves that assert something."""
        values = given(node)
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name.lower().startswith(("assert", "raises")):
            return any(self._depends(one) or self._names(one) & self._functions for one in values)
        helper = self._helpers.get(name) if isinstance(node.func, ast.Name) else None
        if helper is None:
            return False
        self._readings[0] += 1
        if self._readings[0] > _MOST_READINGS:
            return True  # nobody leaves that behind by mistake
        arguments = [one.arg for one in (*helper.args.posonlyargs, *helper.args.args)]
        passed = zip(arguments, node.args, strict=False)
        named = [*passed, *((one.arg, one.value) for one in node.keywords if one.arg)]
        named += [(one.arg, value) for one in (helper.args.vararg, helper.args.kwarg) if one for value in values]
        functions = {argument for argument, value in named if self._names(value) & self._functions}
        results = {argument for argument, value in named if self._depends(value)}
        known = {*self._functions, *functions}
        return _Reader(helper.body, known, self._helpers, {*self._results, *results}, self).decides

    def _bind(self, node: ast.stmt) -> None:
        """Names that take a value which a function has made are results; a second name of a function is one."""
        values: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            values = [node.value] if node.value else []
        elif isinstance(node, ast.For | ast.AsyncFor):
            values = [node.iter]
        elif isinstance(node, ast.With):
            values = [item.context_expr for item in node.items]
        head = [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt)]
        names = {name for part in head for name in stored(part)}
        functions = any(self._names(value) & self._functions and not self._calls([value]) for value in values)
        results = any(self._depends(value) for value in values)
        if not self._depth and isinstance(node, ast.Assign | ast.AnnAssign | ast.For | ast.AsyncFor):
            self._hide(names)
        self._empties -= names
        if functions:
            self._functions |= names
        if results:
            self._results |= names
        if isinstance(node, ast.Assign) and self._is_empty(node.value):
            self._empties |= names

    def _touch(self, node: ast.stmt) -> None:
        """Names whose values a function can have changed, or may have decided about, are results."""
        for one in ast.walk(node):
            if isinstance(one, ast.Call):
                passed = {name for part in given(one) for name in self._names(part)} - self._functions
                owner = self._names(one.func) - self._functions
                if self._names(one.func) & self._functions:
                    self._results |= passed
                elif any(self._depends(part) for part in given(one)) and isinstance(one.func, ast.Attribute):
                    self._results |= owner  # out.append(f(1))
                self._empties -= passed | (owner if getattr(one.func, "attr", "") not in _PARTS else set())
            elif isinstance(one, ast.Assign) and any(not isinstance(target, ast.Name) for target in one.targets):
                changed = {name for target in one.targets for name in self._names(target)} - self._functions
                self._empties -= changed
                if self._depends(one.value):
                    self._results |= changed
        test = getattr(node, "test", None) or getattr(node, "subject", None)
        if (test and self._depends(test)) or (isinstance(node, ast.Try) and self._calls(node.body)):
            self._results |= set(stored(node))

    def _hide(self, names: Collection[str]) -> None:
        """These names are something else from now on."""
        self._functions -= set(names)
        self._results -= set(names)

    def _calls(self, nodes: Iterable[ast.AST]) -> bool:
        return any(self._depends(node) for node in nodes)

    def _is_empty(self, node: ast.expr) -> bool:
        """Whether there is nothing to go through."""
        if isinstance(node, ast.Name):
            return node.id in self._empties
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", None)
            if name == "range":
                values = [whole(one) for one in node.args]
                known = [value for value in values if value is not None]
                return 1 <= len(known) == len(values) <= 3 and known[2:] != [0] and not range(*known)
            if name in _CONTAINERS:
                return any(self._is_empty(one) for one in node.args) or not (node.args or node.keywords)
            return getattr(node.func, "attr", "") in _PARTS and self._is_empty(getattr(node.func, "value", node))
        return (
            not isinstance(node, ast.Constant | ast.UnaryOp | ast.Compare | ast.BoolOp) and truth(node) is False
        ) or (isinstance(node, ast.Constant) and node.value in ("", b""))

    def _depends(self, node: ast.AST) -> bool:
        """Whether a value is made by one of the functions, as far as is seen."""
        waiting = [node]
        while waiting:
            one = waiting.pop()
            if isinstance(one, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) and self._is_empty(
                one.generators[0].iter
            ):
                continue
            if isinstance(one, ast.Name) and one.id in self._results:
                return True
            if isinstance(one, ast.Call):
                called = getattr(one.func, "id", None)
                passed = {value.id for value in given(one) if isinstance(value, ast.Name)} & self._functions
                if self._names(one.func) & self._functions or (passed and called not in _SAYS_NOTHING):
                    return True
            waiting += ast.iter_child_nodes(one)
        return False

    @staticmethod
    def _names(node: ast.AST) -> set[str]:
        return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
