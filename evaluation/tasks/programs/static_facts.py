"""What can be said of a Python expression or statement by reading it alone."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_SWALLOWING = {"AssertionError", "Exception", "BaseException"}
_EXITS = {"exit", "quit", "_exit", "abort"}
_TRUE = {"repr", "id", "type", "callable", "hasattr"}
"""Built-in functions whose value is true of any function, and any value."""


def truth(node: ast.expr) -> bool | None:
    """The truth of an expression that is always true or always false; None of others."""
    if isinstance(node, ast.Constant):
        return bool(node.value)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return bool(node.elts) if not any(isinstance(one, ast.Starred) for one in node.elts) else None
    if isinstance(node, ast.Dict):
        return bool(node.keys)
    if isinstance(node, ast.Lambda | ast.GeneratorExp):
        return True
    if isinstance(node, ast.JoinedStr):
        return True if any(isinstance(one, ast.Constant) and one.value for one in node.values) else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        any_object = node.func.id == "isinstance" and getattr(node.args[-1:] and node.args[-1], "id", None) == "object"
        return True if node.func.id in _TRUE or any_object else None
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp):
        (first, *others) = node.generators
        return True if not (others or first.ifs) and truth(first.iter) else None
    if isinstance(node, ast.IfExp):
        test, body, other = truth(node.test), truth(node.body), truth(node.orelse)
        return body if test or (test is None and body == other) else other if test is False else None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = truth(node.operand)
        return None if inner is None else not inner
    if isinstance(node, ast.BoolOp):
        truths = [truth(one) for one in node.values]
        decisive = isinstance(node.op, ast.Or)
        if decisive in truths or (decisive and _complete(node.values)):
            return decisive
        return None if None in truths else not decisive
    if isinstance(node, ast.Compare) and all(isinstance(one, ast.Eq | ast.Is | ast.LtE | ast.GtE) for one in node.ops):
        sides = {ast.dump(one) for one in (node.left, *node.comparators)}
        return True if len(sides) == 1 else None
    return None


def _complete(values: list[ast.expr]) -> bool:
    """Whether one of several comparisons is always true: ``x == 1 or x != 1``."""
    opposites = {"Eq": "NotEq", "NotEq": "Eq", "Is": "IsNot", "IsNot": "Is", "In": "NotIn", "NotIn": "In"}
    found = {
        (ast.dump(one.left), type(one.ops[0]).__name__, ast.dump(one.comparators[0]))
        for one in values
        if isinstance(one, ast.Compare) and len(one.ops) == 1
    }
    return any((left, opposites.get(sign, ""), right) in found for left, sign, right in found)


def ends(node: ast.stmt) -> bool:
    """Whether nothing after a statement is run."""
    if isinstance(node, ast.If):
        known = truth(node.test)
        taken = node.body if known else node.orelse
        return known is not None and any(ends(one) for one in taken)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return getattr(node.value.func, "attr", getattr(node.value.func, "id", "")) in _EXITS
    return isinstance(node, ast.Return | ast.Raise | ast.Break | ast.Continue)


def can_fail(body: Iterable[ast.stmt]) -> bool:
    """Whether a block raises something, or asserts what is false."""
    return any(isinstance(one, ast.Raise) or (isinstance(one, ast.Assert) and truth(one.test) is False) for one in body)


def suppresses(node: ast.With | ast.AsyncWith) -> bool:
    """``with suppress(AssertionError)``"""
    calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
    return any("suppress" in mentions(call.func) and mentions(call) & _SWALLOWING for call in calls)


def is_lazy(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a call of it alone does nothing: a coroutine, or a generator."""
    return isinstance(node, ast.AsyncFunctionDef) or any(
        isinstance(one, ast.Yield | ast.YieldFrom) for one in own(node)
    )


def mentions(node: ast.AST) -> set[str]:
    """All names and attributes."""
    found = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return found | {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}


def stored(node: ast.AST) -> Iterator[str]:
    """Names that are given a value."""
    return (one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store))


def given(node: ast.Call) -> list[ast.expr]:
    """All arguments."""
    return [*node.args, *(keyword.value for keyword in node.keywords)]


def whole(node: ast.expr) -> int | None:
    """A whole number that is written out; None of anything else."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, int) else None


def swallows(handler: ast.ExceptHandler) -> bool:
    """Whether a failed assertion ends here."""
    named = {one.id for one in ast.walk(handler.type) if isinstance(one, ast.Name)} if handler.type else _SWALLOWING
    return bool(named & _SWALLOWING) and not any(isinstance(one, ast.Raise | ast.Assert) for one in ast.walk(handler))


def own(node: ast.AST) -> Iterator[ast.AST]:
    """All that a function holds, without what is in functions within it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (*FUNCTION, ast.Lambda)):
            yield child
            yield from own(child)
