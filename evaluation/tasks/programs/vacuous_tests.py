"""Detect vacuous tests: they assert nothing, or nothing that depends on the program's functions.

A row with such tests would score 1.0 for every program. The tests are read, not run: this finds what is left by mistake
(a stub, a comment, an assertion that is always true, a function that is never called), not what is hidden.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable

from evaluation.tasks.programs.static_facts import (
    FUNCTION,
    arguments_of,
    can_fail,
    ends,
    int_literal,
    is_lazy,
    mentions,
    own_nodes,
    stored,
    suppresses,
    swallows,
    truth,
)

_NEVER_CALLS = set("callable hasattr isinstance id repr type bool str print".split())
"""Built-in functions that do not call a function passed to them."""
_MAX_HELPER_CALLS = 50
_RUNNERS = {"main", "TextTestRunner"}
"""Run the classes of a test program without naming them."""
_CONTAINERS = set("list tuple set frozenset dict zip enumerate map filter sorted reversed str".split())
_VIEWS = {"items", "keys", "values", "copy"}


def checks_nothing(tests: str, functions: Collection[str]) -> bool:
    """Whether no statement of ``tests`` can fail because of the results of ``functions``."""
    return not _Reader(ast.parse(tests).body, functions).decides


def checker_problem(tests: str, entry_point: str) -> str | None:
    """What is wrong with HumanEval's ``check(candidate)``; None if it is sound."""
    body = ast.parse(tests).body
    found = [node for node in body if isinstance(node, FUNCTION) and node.name == "check"]
    if not found:
        return "'test' has no function check(candidate)"
    (*_, check) = found
    arguments = [*check.args.posonlyargs, *check.args.args]
    if not arguments:
        return "the function check of 'test' takes no argument: nothing could pass"
    if is_lazy(check):
        return "calling the function check of 'test' does nothing: it is a coroutine or a generator"
    helpers = {node.name: node for node in body if isinstance(node, FUNCTION)}
    reader = _Reader(check.body, {arguments[0].arg, entry_point}, helpers)
    return None if reader.decides else "'test' asserts nothing about the function: any program would pass"


class _Reader:
    """Follows statements in order until the result of a function can make one fail."""

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
        # calls of helpers, counted together with those of nested readers
        self._helper_calls: list[int] = above._helper_calls if above else [0]
        self.decides = self._block(body)

    def _block(self, body: Iterable[ast.stmt]) -> bool:
        for node in body:
            if self._statement(node):
                return True
            if ends(node):
                return False  # the rest never runs
        return False

    def _statement(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.ClassDef):
            self._hide({node.name})
            self._classes[node.name] = node
            return False
        if self._classes and not isinstance(node, FUNCTION):
            named = mentions(node)
            used = [name for name in self._classes if name in named or named & _RUNNERS]
            methods = [child for name in used for child in self._classes.pop(name).body if isinstance(child, FUNCTION)]
            if self._block(child for method in methods for child in method.body):
                return True
        if isinstance(node, ast.Assert):
            return truth(node.test) is None and self._depends(node.test)
        if isinstance(node, FUNCTION):
            self._hide({node.name})
            self._helpers[node.name] = node
            if any(
                self._depends(child.value) for child in own_nodes(node) if isinstance(child, ast.Return) and child.value
            ):
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
            cases = [child for case in node.cases for child in case.body]
            return (self._depends(node.subject) and can_fail(cases)) or self._block(cases)
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            helper = self._helpers.get(call.func.id)
            if helper and is_lazy(helper):
                return False
        return any(self._call(call) for call in ast.walk(node) if isinstance(call, ast.Call))

    def _tried(self, node: ast.Try) -> bool:
        """What follows a call in ``try`` runs only if the function did not raise."""
        if any(isinstance(child, ast.Return | ast.Break | ast.Continue) for child in node.finalbody):
            return False
        swallowed = any(swallows(handler) for handler in node.handlers)
        tried = [*node.body, *node.orelse]
        if not swallowed and (self._block(tried) or (self._calls(node.body) and can_fail(tried))):
            return True
        handled = [child for handler in node.handlers for child in handler.body]
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
            isinstance(child.context_expr, ast.Call) and "raises" in ast.dump(child.context_expr.func).lower()
            for child in node.items
        )
        return asked and any(self._depends(child) for child in node.body)

    def _call(self, node: ast.Call) -> bool:
        """``numpy.testing.assert_allclose(f(1), 2)``, and helpers of the tests that assert something."""
        values = arguments_of(node)
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name.lower().startswith(("assert", "raises")):
            return any(self._depends(child) or self._names(child) & self._functions for child in values)
        helper = self._helpers.get(name) if isinstance(node.func, ast.Name) else None
        if helper is None:
            return False
        self._helper_calls[0] += 1
        if self._helper_calls[0] > _MAX_HELPER_CALLS:
            return True  # too elaborate for a mistake
        arguments = [child.arg for child in (*helper.args.posonlyargs, *helper.args.args)]
        passed = zip(arguments, node.args, strict=False)
        named = [*passed, *((child.arg, child.value) for child in node.keywords if child.arg)]
        named += [(child.arg, value) for child in (helper.args.vararg, helper.args.kwarg) if child for value in values]
        functions = {argument for argument, value in named if self._names(value) & self._functions}
        results = {argument for argument, value in named if self._depends(value)}
        known = {*self._functions, *functions}
        return _Reader(helper.body, known, self._helpers, {*self._results, *results}, self).decides

    def _bind(self, node: ast.stmt) -> None:
        """Names bound to a function's result become results; other names of a function become functions."""
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
        """Names whose values a function may have changed or determined become results."""
        for child in ast.walk(node):
            if isinstance(child, ast.Call):
                passed = {name for part in arguments_of(child) for name in self._names(part)} - self._functions
                owner = self._names(child.func) - self._functions
                if self._names(child.func) & self._functions:
                    self._results |= passed
                elif any(self._depends(part) for part in arguments_of(child)) and isinstance(child.func, ast.Attribute):
                    self._results |= owner  # out.append(f(1))
                self._empties -= passed | (owner if getattr(child.func, "attr", "") not in _VIEWS else set())
            elif isinstance(child, ast.Assign) and any(not isinstance(target, ast.Name) for target in child.targets):
                changed = {name for target in child.targets for name in self._names(target)} - self._functions
                self._empties -= changed
                if self._depends(child.value):
                    self._results |= changed
        test = getattr(node, "test", None) or getattr(node, "subject", None)
        if (test and self._depends(test)) or (isinstance(node, ast.Try) and self._calls(node.body)):
            self._results |= set(stored(node))

    def _hide(self, names: Collection[str]) -> None:
        """These names get another meaning from here on."""
        self._functions -= set(names)
        self._results -= set(names)

    def _calls(self, nodes: Iterable[ast.AST]) -> bool:
        return any(self._depends(node) for node in nodes)

    def _is_empty(self, node: ast.expr) -> bool:
        """Whether an iterable is empty."""
        if isinstance(node, ast.Name):
            return node.id in self._empties
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", None)
            if name == "range":
                values = [int_literal(child) for child in node.args]
                known = [value for value in values if value is not None]
                return 1 <= len(known) == len(values) <= 3 and known[2:] != [0] and not range(*known)
            if name in _CONTAINERS:
                return any(self._is_empty(child) for child in node.args) or not (node.args or node.keywords)
            return getattr(node.func, "attr", "") in _VIEWS and self._is_empty(getattr(node.func, "value", node))
        return (
            not isinstance(node, ast.Constant | ast.UnaryOp | ast.Compare | ast.BoolOp) and truth(node) is False
        ) or (isinstance(node, ast.Constant) and node.value in ("", b""))

    def _depends(self, node: ast.AST) -> bool:
        """Whether a value comes from one of the functions, as far as the source shows."""
        waiting = [node]
        while waiting:
            child = waiting.pop()
            if isinstance(child, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) and self._is_empty(
                child.generators[0].iter
            ):
                continue
            if isinstance(child, ast.Name) and child.id in self._results:
                return True
            if isinstance(child, ast.Call):
                called = getattr(child.func, "id", None)
                passed = {value.id for value in arguments_of(child) if isinstance(value, ast.Name)} & self._functions
                if self._names(child.func) & self._functions or (passed and called not in _NEVER_CALLS):
                    return True
            waiting += ast.iter_child_nodes(child)
        return False

    @staticmethod
    def _names(node: ast.AST) -> set[str]:
        return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
