"""Objects and classes of the program in tests that are about classes: they are asked, operation by operation.

That is for tests that name a class of the program as classes are named, with a capital. In all others an object of the
program is opaque, since a function could return one that answers in place of plain data. Even here none is equal to
plain data, and none keeps an exception of the tests.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from .channel import KINDS, Borrowed

_OPERATORS = (
    "eq ne lt le gt ge add sub mul truediv floordiv mod pow matmul and or xor neg abs contains getitem setitem delitem "
    "iadd isub imul"
)
_REFLECTED = "add sub mul truediv"
_CONVERSIONS: tuple[Callable[[Any], Any], ...] = (len, iter, str, repr, bool, hash, int, float)


def _reflected(name: str) -> Callable[[Any, Any], Any]:
    return lambda value, other: getattr(operator, f"__{name}__")(other, value)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "get": getattr,
    "set": setattr,
    "isinstance": lambda value, item: isinstance(item, value),
    "__enter__": lambda value: type(value).__enter__(value),
    "__exit__": lambda value: type(value).__exit__(value, None, None, None),
    **{f"__{name}__": getattr(operator, f"__{name}__") for name in _OPERATORS.split()},
    **{f"__r{name}__": _reflected(name) for name in _REFLECTED.split()},
    **{f"__{kind.__name__}__": kind for kind in _CONVERSIONS},
}
"""What the program does for its objects when it is asked to."""


def methods_of(value: Any) -> list[str]:
    """The special methods that something of the program has, of those that it can be asked for."""
    found = [name for name in OPERATIONS if name.startswith("__") and hasattr(type(value), name)]
    return [*found, "__getitem__"] if hasattr(value, "__class_getitem__") else found


class Object(Borrowed):
    """Something of the program that can be asked."""

    def _ask(self, operation: str, *arguments: Any) -> Any:
        channel, number = self._borrowed
        return channel.use(number, operation, arguments, {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"tests can't ask {self.__name__} for {name}")
        return self._ask("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_borrowed", "__name__"):
            object.__setattr__(self, name, value)
        else:
            self._ask("set", name, value)

    def __eq__(self, other: object) -> bool:
        return bool(self._ask("__eq__", other)) if isinstance(other, Borrowed) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return bool(self._ask("__ne__", other)) if isinstance(other, Borrowed) else NotImplemented

    def __hash__(self) -> int:
        return int(self._ask("__hash__"))

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, Borrowed) and bool(self._ask("isinstance", instance))


@lru_cache
def kind_of(kind: str, methods: tuple[str, ...]) -> type[Borrowed]:
    """A class of what stands for something of the program.

    Args:
        kind: as what it is lent.
        methods: the special ones that it has.
    """

    def asking(name: str) -> Callable[..., Any]:
        if name == "__exit__":
            return lambda self, *error: self._ask(name) and None  # what the tests raised goes on
        return lambda self, *arguments: self._ask(name, *arguments)

    has = {name: asking(name) for name in methods if name in OPERATIONS and name not in vars(Object)}
    return type("Object", (Object,) if kind == "object" else (KINDS[kind], Object), has)
