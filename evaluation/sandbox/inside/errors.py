"""Exceptions between the program and its tests: what is told of one, and one that is made of that."""

from __future__ import annotations

import builtins
import json
import sys
from collections.abc import Callable
from typing import Any

from . import values

_MOST = 100_000  # bytes of arguments


def told(error: BaseException, refer: values.Refer, source: str = "", file: str = "") -> list[Any]:
    """What is known of an exception.

    Args:
        error: that was raised.
        refer: for its arguments, as of `values.encode`.
        source: the program.
        file: its name in tracebacks.

    Returns:
        Its name, its nearest built-in classes, what it says, its arguments (None: they can't pass) and the innermost
        line of the program that it comes from.
    """
    try:
        said = str(error)
    except BaseException:
        said = ""  # the error fails at saying it
    try:
        arguments = values.encode(list(error.args), refer)
        if len(json.dumps(arguments)) > _MOST:
            arguments = None
    except BaseException:
        arguments = None
    kinds = [kind.__name__ for kind in type(error).__mro__ if getattr(builtins, kind.__name__, None) is kind]
    return [type(error).__name__[:100], kinds, str(said)[:10_000], arguments, line(error, source, file)]


def line(error: BaseException, source: str, file: str) -> str:
    """The innermost line of a source that an exception comes from."""
    trace, found = error.__traceback__, ""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            found = "".join(source.split("\n")[trace.tb_lineno - 1 : trace.tb_lineno]).strip()
        trace = trace.tb_next
    return found[:300]


def is_own(value: Any) -> bool:
    """Whether this is a class of exceptions that is not built in."""
    return (
        isinstance(value, type)
        and issubclass(value, Exception)
        and getattr(builtins, value.__name__, None) is not value
    )


def of_library(name: str, home: str) -> type[Exception] | None:
    """The class of exceptions that has this name in this module, if that is one of the standard library and is here."""
    library = home.partition(".")[0] in sys.stdlib_module_names
    found = getattr(sys.modules.get(home), name, None) if library else None
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def own(name: str, bases: list[Any]) -> type[Exception]:
    """A class of exceptions with nothing of its own but its place among others.

    Raises:
        TypeError: they are no exceptions that tests may catch.
    """
    if not all(isinstance(base, type) and issubclass(base, Exception) for base in bases):
        raise TypeError(name)
    return type(name, tuple(bases), {})


def kind_of(kinds: list[Any]) -> type[BaseException] | None:
    """The nearest class of an exception: a stand-in for its own, or a built-in one, by the names that were told."""
    for kind in kinds:
        found = getattr(builtins, kind, None) if isinstance(kind, str) else kind
        if isinstance(found, type) and issubclass(found, BaseException):
            return found
    return None


def made(kind: type[BaseException] | None, name: str, said: str, arguments: list[Any] | None) -> Exception | None:
    """An exception that behaves like the one that was told of; None: it is none that tests may catch.

    Args:
        kind: its nearest built-in class.
        name: of its own class.
        said: its message.
        arguments: its arguments, if they could pass.
    """
    if kind is None or not issubclass(kind, Exception):
        return None
    given = [said] if arguments is None else arguments
    own: type[Exception] = type(name, (kind,), {"__str__": lambda error: said})
    makes: list[Callable[[], Exception]] = [
        lambda: kind(*given),
        lambda: own(*given),
        lambda: own(said),
        lambda: own.__new__(own, said),
    ]
    for make in makes:
        try:
            error = make()
            if type(error).__name__ == name and str(error) == said:
                return error
        except Exception:
            continue  # some take other arguments than others
    return type(name, (Exception,), {})(said)
