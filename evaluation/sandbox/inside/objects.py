"""Stand-ins for objects and classes of the program, which forward each operation to the program.

Only tests that name a class of the program (by a capitalised name) get them. In all other tests objects of the program
are opaque, since a function could return one that answers in place of plain data. No stand-in equals plain data or
suppresses an exception of the tests.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from .channel import STAND_INS, Borrowed

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
"""What the program does with its objects on request."""


def methods_of(value: Any) -> list[str]:
    """The special methods that something of the program has, among those in `OPERATIONS`."""
    found = [name for name in OPERATIONS if name.startswith("__") and hasattr(type(value), name)]
    return [*found, "__getitem__"] if hasattr(value, "__class_getitem__") else found


class Object(Borrowed):
    """A stand-in that forwards attributes and operators."""

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
def stand_in_class(kind: str, methods: tuple[str, ...]) -> type[Borrowed]:
    """The class of stand-ins for something lent as ``kind`` with these special ``methods``."""

    def forward(name: str) -> Callable[..., Any]:
        if name == "__exit__":
            return lambda self, *error: self._ask(name) and None  # never suppresses what the tests raised
        return lambda self, *arguments: self._ask(name, *arguments)

    forwarded = {name: forward(name) for name in methods if name in OPERATIONS and name not in vars(Object)}
    return type("Object", (Object,) if kind == "object" else (STAND_INS[kind], Object), forwarded)
