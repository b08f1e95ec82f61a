"""Plain data as JSON, with types: what passes between the program and its tests.

Reading makes nothing but plain data, whatever was sent: no class of the program, no ``__eq__`` of its own.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Named:
    """Something of the program that is not plain data, for which its name stands."""

    name: str


_MOST_ITEMS = 100_000  # of an iterator, which may be endless


def encode(value: Any) -> Any:
    """Plain data (or an instance of a class derived from it) as something that JSON can say.

    Raises:
        TypeError: it is not plain data.
        RecursionError: it contains itself.
    """
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < 2**53 else {"int": hex(value)}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    for kind in (tuple, set, frozenset, deque):
        if isinstance(value, kind):
            return {kind.__name__: [encode(item) for item in value]}
    if isinstance(value, bytes | bytearray):
        return {"bytearray" if isinstance(value, bytearray) else "bytes": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, range):
        return {"range": [encode(value.start), encode(value.stop), encode(value.step)]}
    if isinstance(value, Fraction):
        return {"Fraction": [encode(value.numerator), encode(value.denominator)]}
    if isinstance(value, Decimal):
        return {"Decimal": str(value)}
    if isinstance(value, Named):
        return {"Named": value.name}
    if hasattr(value, "__next__"):
        return {"iterator": [encode(item) for item in itertools.islice(value, _MOST_ITEMS)]}
    raise TypeError(f"{type(value).__name__} is not plain data")


_DECODERS: dict[str, Any] = {
    "int": lambda text: int(text, 16),
    "dict": lambda pairs: {decode(key): decode(value) for key, value in pairs},
    "tuple": lambda items: tuple(decode(items)),
    "set": lambda items: set(decode(items)),
    "frozenset": lambda items: frozenset(decode(items)),
    "deque": lambda items: deque(decode(items)),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": lambda parts: complex(*parts),
    "range": lambda parts: range(*decode(parts)),
    "Fraction": lambda parts: Fraction(*decode(parts)),
    "Decimal": Decimal,
    "Named": Named,
    "iterator": lambda items: iter(decode(items)),
}


def decode(message: Any) -> Any:
    """The data of which `encode` made the message.

    Raises:
        Exception: of many kinds, where it made no such message.
    """
    if isinstance(message, list):
        return [decode(item) for item in message]
    if isinstance(message, dict):
        ((kind, content),) = message.items()
        return _DECODERS[kind](content)
    return message


def overwrite(value: Any, new: Any) -> None:
    """Change a list, set, dict or bytearray in place into another of its type; leave anything else."""
    if type(value) is not type(new):
        return
    if isinstance(value, list | bytearray):
        value[:] = new
    elif isinstance(value, set | dict):
        value.clear()
        value.update(new)
