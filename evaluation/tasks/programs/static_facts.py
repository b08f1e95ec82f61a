"""Facts about Python expressions and statements that follow from their source: constant truth, exits, exceptions."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_SWALLOWING = {"AssertionError", "Exception", "BaseException"}
_EXITS = {"exit", "quit", "_exit", "abort"}
_ALWAYS_TRUE = {"repr", "id", "type", "callable", "hasattr"}
"""Built-in functions whose result is true for any argument."""


def truth(node: ast.expr) -> bool | None:
    """Whether an expression is always true or always false; None if neither."""
    if isinstance(node, ast.Constant):
        return bool(node.value)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return bool(node.elts) if not any(isinstance(child, ast.Starred) for child in node.elts) else None
    if isinstance(node, ast.Dict):
        return bool(node.keys)
    if isinstance(node, ast.Lambda | ast.GeneratorExp):
        return True
    if isinstance(node, ast.JoinedStr):
        return True if any(isinstance(child, ast.Constant) and child.value for child in node.values) else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        any_object = node.func.id == "isinstance" and getattr(node.args[-1:] and node.args[-1], "id", None) == "object"
        return True if node.func.id in _ALWAYS_TRUE or any_object else None
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
        truths = [truth(child) for child in node.values]
        decisive = isinstance(node.op, ast.Or)
        if decisive in truths or (decisive and _cover_all(node.values)):
            return decisive
        return None if None in truths else not decisive
    if isinstance(node, ast.Compare) and all(
        isinstance(child, ast.Eq | ast.Is | ast.LtE | ast.GtE) for child in node.ops
    ):
        sides = {ast.dump(child) for child in (node.left, *node.comparators)}
        return True if len(sides) == 1 else None
    return None


def _cover_all(values: list[ast.expr]) -> bool:
    """Whether two comparisons cover all cases: ``x == 1 or x != 1``."""
    opposites = {"Eq": "NotEq", "NotEq": "Eq", "Is": "IsNot", "IsNot": "Is", "In": "NotIn", "NotIn": "In"}
    found = {
        (ast.dump(child.left), type(child.ops[0]).__name__, ast.dump(child.comparators[0]))
        for child in values
        if isinstance(child, ast.Compare) and len(child.ops) == 1
    }
    return any((left, opposites.get(sign, ""), right) in found for left, sign, right in found)


def ends(node: ast.stmt) -> bool:
    """Whether nothing after a statement runs."""
    if isinstance(node, ast.If):
        known = truth(node.test)
        taken = node.body if known else node.orelse
        return known is not None and any(ends(child) for child in taken)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return getattr(node.value.func, "attr", getattr(node.value.func, "id", "")) in _EXITS
    return isinstance(node, ast.Return | ast.Raise | ast.Break | ast.Continue)


def can_fail(body: Iterable[ast.stmt]) -> bool:
    """Whether a block has a ``raise`` or a false assertion."""
    return any(
        isinstance(child, ast.Raise) or (isinstance(child, ast.Assert) and truth(child.test) is False) for child in body
    )


def suppresses(node: ast.With | ast.AsyncWith) -> bool:
    """Whether this is ``with suppress(AssertionError)``."""
    calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
    return any("suppress" in mentions(call.func) and mentions(call) & _SWALLOWING for call in calls)


def is_lazy(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether calling a function does nothing yet: a coroutine or a generator."""
    return isinstance(node, ast.AsyncFunctionDef) or any(
        isinstance(child, ast.Yield | ast.YieldFrom) for child in own_nodes(node)
    )


def mentions(node: ast.AST) -> set[str]:
    """All names and attributes."""
    found = {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
    return found | {child.attr for child in ast.walk(node) if isinstance(child, ast.Attribute)}


def stored(node: ast.AST) -> Iterator[str]:
    """Names that are assigned."""
    return (child.id for child in ast.walk(node) if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store))


def arguments_of(node: ast.Call) -> list[ast.expr]:
    """All arguments of a call."""
    return [*node.args, *(keyword.value for keyword in node.keywords)]


def int_literal(node: ast.expr) -> int | None:
    """The value of an integer literal; None for anything else."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, int) else None


def swallows(handler: ast.ExceptHandler) -> bool:
    """Whether a handler catches failed assertions."""
    named = (
        {child.id for child in ast.walk(handler.type) if isinstance(child, ast.Name)} if handler.type else _SWALLOWING
    )
    return bool(named & _SWALLOWING) and not any(
        isinstance(child, ast.Raise | ast.Assert) for child in ast.walk(handler)
    )


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a function outside of nested functions."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (*FUNCTION, ast.Lambda)):
            yield child
            yield from own_nodes(child)
