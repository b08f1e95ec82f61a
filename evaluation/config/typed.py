"""Plain values from a config file or a command line, checked against the annotations of a dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from cache_zoo.errors import require, shown, suggest

T = TypeVar("T")


def read(cls: type[T], values: Mapping[str, Any], section: str = "") -> T:
    """``cls`` made from ``values``, whose keys and types its annotations say.

    Args:
        cls: a dataclass of str, int, float, bool, ``X | None``, ``list[str]`` and ``Any``.
        values: one value per field.
        section: prefix of the keys in messages.

    Raises:
        UsageError: unknown or missing key, or a value of another type.
    """
    hints = get_type_hints(cls)
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for key in values:
        require(key in known, f"unknown key '{section}{key}': {suggest(str(key), known)}")
    for key in known:
        require(key in values, f"the configuration has no '{section}{key}'")
    return cls(**{key: check(f"{section}{key}", values[key], hints[key]) for key in known})


def check(key: str, value: Any, hint: Any) -> Any:
    """``value``, of which ``hint`` says the type; whole numbers pass for floats.

    Raises:
        UsageError: it is of another type.
    """
    options = get_args(hint) if type(None) in get_args(hint) else (hint,)
    for option in options:
        if option is Any or (option is NoneType and value is None):
            return value
        if get_origin(option) is list:
            if isinstance(value, list) and all(isinstance(item, get_args(option)[0]) for item in value):
                return value
        elif option is float:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
        elif isinstance(value, option) and (option is bool or not isinstance(value, bool)):
            return value
    names = " or ".join("null" if option is NoneType else _name(option) for option in options)
    require(False, f"{key} must be {names}, not {shown(value)}")
    return None


def _name(hint: Any) -> str:
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return "a list of texts" if get_origin(hint) is list else words.get(hint, str(hint))
