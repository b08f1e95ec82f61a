"""Exceptions between the program and its tests: describe one, and rebuild it from its description."""

from __future__ import annotations

import builtins
import json
import sys
from collections.abc import Callable
from typing import Any

from . import serialize

_MAX_ARGUMENTS = 100_000  # bytes


def describe(error: BaseException, refer: serialize.Refer, source: str = "", file: str = "") -> list[Any]:
    """Describe an exception of the program ``source``, which is ``file`` in tracebacks; ``refer`` is for its arguments.

    Returns:
        Class name, names of its built-in base classes from the nearest on, message, arguments (None if they can't pass)
        and the innermost line of the program in its traceback.
    """
    try:
        message = str(error)
    except BaseException:  # of its own __str__
        message = ""
    try:
        arguments = serialize.encode(list(error.args), refer)
        if len(json.dumps(arguments)) > _MAX_ARGUMENTS:
            arguments = None
    except BaseException:
        arguments = None
    bases = [kind.__name__ for kind in type(error).__mro__ if getattr(builtins, kind.__name__, None) is kind]
    return [type(error).__name__[:100], bases, str(message)[:10_000], arguments, source_line(error, source, file)]


def source_line(error: BaseException, source: str, file: str) -> str:
    """The innermost line of a source in an exception's traceback."""
    trace, line = error.__traceback__, ""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = "".join(source.split("\n")[trace.tb_lineno - 1 : trace.tb_lineno]).strip()
        trace = trace.tb_next
    return line[:300]


def is_custom(value: Any) -> bool:
    """Whether this is an exception class that is not built in."""
    return (
        isinstance(value, type)
        and issubclass(value, Exception)
        and getattr(builtins, value.__name__, None) is not value
    )


def from_library(name: str, home: str) -> type[Exception] | None:
    """The exception class of this name in a module of the standard library, if that is loaded."""
    standard = home.partition(".")[0] in sys.stdlib_module_names
    found = getattr(sys.modules.get(home), name, None) if standard else None
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def make_class(name: str, bases: list[Any]) -> type[Exception]:
    """An exception class with a place in the hierarchy and nothing else.

    Raises:
        TypeError: the bases are not exceptions that tests may catch.
    """
    if not all(isinstance(base, type) and issubclass(base, Exception) for base in bases):
        raise TypeError(name)
    return type(name, tuple(bases), {})


def nearest_class(bases: list[Any]) -> type[BaseException] | None:
    """The first exception class: a stand-in for the exception's own, or a built-in one by its name."""
    for base in bases:
        found = getattr(builtins, base, None) if isinstance(base, str) else base
        if isinstance(found, type) and issubclass(found, BaseException):
            return found
    return None


def rebuild(base: type[BaseException] | None, name: str, message: str, arguments: list[Any] | None) -> Exception | None:
    """An exception called ``name``, derived from its nearest known class; None if tests may not catch it."""
    if base is None or not issubclass(base, Exception):
        return None
    given = [message] if arguments is None else arguments
    own: type[Exception] = type(name, (base,), {"__str__": lambda error: message})
    attempts: list[Callable[[], Exception]] = [
        lambda: base(*given),
        lambda: own(*given),
        lambda: own(message),
        lambda: own.__new__(own, message),
    ]
    for make in attempts:
        try:
            error = make()
            if type(error).__name__ == name and str(error) == message:
                return error
        except Exception:
            continue  # constructors differ in their arguments
    return type(name, (Exception,), {})(message)
