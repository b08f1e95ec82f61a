"""Tests that say nothing about a program: they assert nothing, or nothing that depends on its functions.

A row with such tests would give every program a score of 1.0. They are found by reading: nothing is run. What is found
is what people leave behind (a stub, a comment, an assertion that is always true, a function that is never called), not
what somebody hides.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator

_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_SAYS_NOTHING = {"callable", "hasattr", "isinstance", "id", "repr", "type", "bool", "str", "print"}
"""Built-in functions that a function can be given to without being called."""
_MOST_READINGS = 50
_SWALLOWING = {"AssertionError", "Exception", "BaseException"}


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
    found = [node for node in body if isinstance(node, _FUNCTION) and node.name == "check"]
    if not found:
        return "'test' has no function check(candidate)"
    (*_, check) = found
    arguments = [*check.args.posonlyargs, *check.args.args]
    if not arguments:
        return "the function check of 'test' takes no argument, so that nothing could pass"
    if isinstance(check, ast.AsyncFunctionDef) or any(
        isinstance(node, ast.Yield | ast.YieldFrom) for node in _own(check)
    ):
        return "calling the function check of 'test' does nothing: it is a coroutine or a generator"
    helpers = {node.name: node for node in body if isinstance(node, _FUNCTION)}
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
        self._readings: list[int] = above._readings if above else [0]  # of helpers, counted together
        self.decides = self._block(body)

    def _block(self, body: Iterable[ast.stmt]) -> bool:
        for node in body:
            if self._statement(node):
                return True
            if isinstance(node, ast.Return | ast.Raise | ast.Break | ast.Continue):
                return False  # what comes after it is never run
        return False

    def _statement(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Assert):
            return _truth(node.test) is None and self._depends(node.test)
        if isinstance(node, _FUNCTION):
            self._helpers[node.name] = node
            return False
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.For | ast.AsyncFor | ast.With):
            self._bind(node)
        if isinstance(node, ast.If):
            return self._branch(node)
        if isinstance(node, ast.While):
            return _truth(node.test) is not False and (self._raises(node) or self._block(node.body))
        if isinstance(node, ast.For | ast.AsyncFor):
            return not _is_empty(node.iter) and (self._block(node.body) or self._block(node.orelse))
        if isinstance(node, ast.With | ast.AsyncWith):
            return self._expects(node) or self._block(node.body)
        if isinstance(node, ast.Try):
            swallowed = any(_swallows(handler) for handler in node.handlers)
            inner = not swallowed and self._block([*node.body, *node.orelse])
            return inner or any(self._block(one.body) for one in node.handlers) or self._block(node.finalbody)
        if isinstance(node, ast.ClassDef):
            return self._block(one for method in node.body if isinstance(method, _FUNCTION) for one in method.body)
        return any(self._call(call) for call in ast.walk(node) if isinstance(call, ast.Call))

    def _branch(self, node: ast.If) -> bool:
        truth = _truth(node.test)
        return (
            (truth is None and self._raises(node))
            or (truth is not False and self._block(node.body))
            or (truth is not True and self._block(node.orelse))
        )

    def _raises(self, node: ast.If | ast.While) -> bool:
        """``if f(1) != 2: raise ...``, or an exit."""
        ends = any(isinstance(one, ast.Raise) for part in (node.body, getattr(node, "orelse", [])) for one in part)
        return ends and self._depends(node.test)

    def _expects(self, node: ast.With | ast.AsyncWith) -> bool:
        """``with pytest.raises(ValueError): f(1)``"""
        asked = any(
            isinstance(one.context_expr, ast.Call) and "raises" in ast.dump(one.context_expr.func).lower()
            for one in node.items
        )
        return asked and any(self._depends(one) for one in node.body)

    def _call(self, node: ast.Call) -> bool:
        """``numpy.testing.assert_allclose(f(1), 2)``, and functions of the tests themselves that assert something."""
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name.lower().startswith(("assert", "raises")):
            return any(self._depends(one) or self._names(one) & self._functions for one in given)
        helper = self._helpers.get(name) if isinstance(node.func, ast.Name) else None
        if helper is None:
            return False
        self._readings[0] += 1
        if self._readings[0] > _MOST_READINGS:
            return True  # nobody leaves that behind by mistake
        arguments = [one.arg for one in (*helper.args.posonlyargs, *helper.args.args)]
        passed = zip(arguments, node.args, strict=False)
        named = [*passed, *((one.arg, one.value) for one in node.keywords if one.arg)]
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
        names = {
            one.id
            for part in head
            for one in ast.walk(part)
            if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
        }
        if any(isinstance(value, ast.Name) and value.id in self._functions for value in values):
            self._functions |= names
        if any(self._depends(value) for value in values):
            self._results |= names

    def _depends(self, node: ast.AST) -> bool:
        """Whether a value is made by one of the functions, as far as is seen."""
        for one in ast.walk(node):
            if isinstance(one, ast.Name) and one.id in self._results:
                return True
            if isinstance(one, ast.Call):
                called = getattr(one.func, "id", None)
                given = [*one.args, *(keyword.value for keyword in one.keywords)]
                passed = {value.id for value in given if isinstance(value, ast.Name)} & self._functions
                if self._names(one.func) & self._functions or (passed and called not in _SAYS_NOTHING):
                    return True
        return False

    @staticmethod
    def _names(node: ast.AST) -> set[str]:
        return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _truth(node: ast.expr) -> bool | None:
    """The truth of an expression that is always true or always false; None of others."""
    if isinstance(node, ast.Constant):
        return bool(node.value)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return bool(node.elts) if not any(isinstance(one, ast.Starred) for one in node.elts) else None
    if isinstance(node, ast.Dict):
        return bool(node.keys)
    if isinstance(node, ast.Lambda):
        return True
    if isinstance(node, ast.JoinedStr):
        return True if any(isinstance(one, ast.Constant) and one.value for one in node.values) else None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _truth(node.operand)
        return None if inner is None else not inner
    if isinstance(node, ast.BoolOp):
        truths = [_truth(one) for one in node.values]
        decisive = isinstance(node.op, ast.Or)
        if decisive in truths:
            return decisive
        return None if None in truths else not decisive
    if isinstance(node, ast.Compare) and all(isinstance(one, ast.Eq | ast.Is | ast.LtE | ast.GtE) for one in node.ops):
        sides = {ast.dump(one) for one in (node.left, *node.comparators)}
        return True if len(sides) == 1 else None
    return None


def _is_empty(node: ast.expr) -> bool:
    if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "range":
        return [getattr(one, "value", None) for one in node.args] == [0]
    return _truth(node) is False


def _swallows(handler: ast.ExceptHandler) -> bool:
    """Whether a failed assertion ends here."""
    named = {one.id for one in ast.walk(handler.type) if isinstance(one, ast.Name)} if handler.type else _SWALLOWING
    return bool(named & _SWALLOWING) and not any(isinstance(one, ast.Raise | ast.Assert) for one in ast.walk(handler))


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """All that a function holds, without what is in functions within it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (*_FUNCTION, ast.Lambda)):
            yield child
            yield from _own(child)
