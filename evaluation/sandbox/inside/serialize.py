"""Data as typed JSON, for calls between the program and its tests.

Plain data is copied; anything else passes as a reference. Whatever was sent, decoding yields only plain data and
stand-ins for references: no class of the program, no ``__eq__`` of its own.
"""

from __future__ import annotations

import builtins
import datetime
from array import array
from collections import Counter, OrderedDict, UserList, UserString, defaultdict, deque, namedtuple
from collections.abc import Callable, ItemsView, KeysView, Mapping, Set, ValuesView
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

Refer = Callable[[Any], Any]
"""From what is not plain data to a message that refers to it, or back."""
_Seen = dict[int, tuple[int, Any]]


def encode(value: Any, refer: Refer, seen: _Seen | None = None) -> Any:
    """Encode a value as JSON data; an instance of a class derived from a plain one becomes plain.

    Args:
        value: anything.
        refer: makes the message for what is not plain data.
        seen: mutable values encoded before, by id, with their number: the same object stays the same object.

    Raises:
        TypeError: ``refer`` refuses it.
        RecursionError: it contains itself.
    """
    if isinstance(value, str):
        return value if value.isascii() or _is_text(value) else {"text": value.encode("utf-8", "surrogatepass").hex()}
    if value is None or isinstance(value, (float, bool)):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < 2**53 else {"int": hex(value)}
    met = {} if seen is None else seen
    if type(value) is tuple:
        return {"tuple": [encode(item, refer, met) for item in value]}
    if id(value) in met:
        return {"again": met[id(value)][0]}
    if type(value) is list:
        message = value if _is_numbers(value) else [encode(item, refer, met) for item in value]
        met[id(value)] = (len(met), value)
        return message

    def kept(message: Any) -> Any:
        met[id(value)] = (len(met), value)  # keeps the value alive, so that no other gets its id
        return message

    def each(items: Any) -> list[Any]:
        return [encode(item, refer, met) for item in items]

    def pairs(items: Any) -> list[Any]:
        return [[encode(key, refer, met), encode(item, refer, met)] for key, item in items]

    if isinstance(value, list):
        return kept([encode(item, refer, met) for item in value])

    if isinstance(value, tuple):
        fields = getattr(type(value), "_fields", None)
        return {"tuple": each(value)} if fields is None else {"namedtuple": [type(value).__name__, fields, each(value)]}
    if isinstance(value, dict):
        if isinstance(value, defaultdict):
            return kept({"defaultdict": [encode(value.default_factory, refer, met), pairs(value.items())]})
        name = "Counter" if isinstance(value, Counter) else "OrderedDict" if isinstance(value, OrderedDict) else "dict"
        return kept({name: pairs(value.items())})
    if isinstance(value, deque):
        return kept({"deque": [each(value), value.maxlen]})
    if isinstance(value, ItemsView):
        return {"items": pairs(value)}
    for name, kind in _COLLECTIONS.items():
        if isinstance(value, kind):
            return kept({name: each(value)}) if name in _MUTABLE else {name: each(value)}
    if isinstance(value, UserList):
        return kept(each(value))
    if isinstance(value, UserString):
        return encode(str(value), refer, met)
    if isinstance(value, Mapping):  # of another class, but equal to a dict
        return kept({"dict": pairs(value.items())})
    for name, (kind, write) in _TEXTS.items():
        if isinstance(value, kind):
            return kept({name: write(value)}) if name in _MUTABLE else {name: write(value)}
    if isinstance(value, type) and getattr(builtins, value.__name__, object()) is value:
        return {"builtin": value.__name__}
    return refer(value)


def _is_numbers(value: list[Any]) -> bool:
    """Whether JSON can hold a list as it is; a shortcut for long ones."""
    kinds = set(map(type, value))
    return kinds <= {float, bool} or (kinds == {int} and min(value) > -(2**53) and max(value) < 2**53)


def _is_text(value: str) -> bool:
    """Whether a string has no lone surrogates, of which JSON would join two into one character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


_IMMUTABLE = (str, int, float, bytes, type(None))  # the most frequent ones
_MUTABLE = ("Counter", "OrderedDict", "array", "bytearray", "defaultdict", "deque", "dict", "set")  # and lists
_COLLECTIONS: dict[str, Any] = {
    "frozenset": frozenset,
    "keys": KeysView,
    "values": ValuesView,
    "set": Set,  # last: the others are sets, too
}
_TEXTS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "bytes": (bytes, bytes.hex),
    "bytearray": (bytearray, bytearray.hex),
    "memoryview": (memoryview, lambda value: value.tobytes().hex()),
    "array": (array, lambda value: [value.typecode, value.tobytes().hex()]),
    "complex": (complex, lambda value: [value.real, value.imag]),
    "range": (range, lambda value: [hex(value.start), hex(value.stop), hex(value.step)]),
    "Fraction": (Fraction, lambda value: [hex(value.numerator), hex(value.denominator)]),
    "Decimal": (Decimal, str),
    "datetime": (datetime.datetime, datetime.datetime.isoformat),  # before its base class
    "date": (datetime.date, datetime.date.isoformat),
    "time": (datetime.time, datetime.time.isoformat),
    "timedelta": (datetime.timedelta, lambda value: [value.days, value.seconds, value.microseconds]),
}


def decode(message: Any, resolve: Refer, made: list[Any] | None = None) -> Any:
    """Decode a message of `encode`; ``resolve`` finds what a message of the other side's ``refer`` stands for.

    ``made`` holds the mutable values decoded before, by number.

    Raises:
        Exception: of many kinds, if the message is malformed.
    """
    if not isinstance(message, (list, dict)):
        return message
    known = [] if made is None else made
    if isinstance(message, list):
        items = [decode(item, resolve, known) if isinstance(item, (list, dict)) else item for item in message]
        known.append(items)
        return items
    if "tuple" in message and len(message) == 1:
        return tuple([decode(item, resolve, known) for item in message["tuple"]])

    def each(items: Any) -> list[Any]:
        return [decode(item, resolve, known) for item in items]

    def pairs(items: Any) -> dict[Any, Any]:
        return {decode(key, resolve, known): decode(item, resolve, known) for key, item in items}

    def kept(value: Any) -> Any:
        known.append(value)
        return value

    ((kind, content),) = message.items()
    if kind == "again":
        return known[content]
    if kind in _FROM_ITEMS:
        return kept(set(each(content))) if kind == "set" else _FROM_ITEMS[kind](each(content))
    if kind in _FROM_PAIRS:
        return _FROM_PAIRS[kind](pairs(content)) if kind == "items" else kept(_FROM_PAIRS[kind](pairs(content)))
    if kind in _FROM_TEXT:
        return kept(_FROM_TEXT[kind](content)) if kind in _MUTABLE else _FROM_TEXT[kind](content)
    if kind == "deque":
        return kept(deque(each(content[0]), content[1]))
    if kind == "namedtuple":
        items = each(content[2])
        # a callable attribute would answer in place of a method
        return tuple(items) if any(map(callable, items)) else _named(str(content[0]), tuple(content[1]))(*items)
    if kind == "defaultdict":
        return kept(defaultdict(decode(content[0], resolve, known), pairs(content[1])))
    return resolve(message)


def _builtin(name: str) -> type:
    kind = getattr(builtins, name)
    if not isinstance(kind, type) or name.startswith("_"):
        raise TypeError(f"{name} is not a class")
    return kind


@lru_cache
def _named(name: str, fields: tuple[str, ...]) -> Any:
    return namedtuple(name, fields, rename=True)


_FROM_ITEMS: dict[str, Callable[[list[Any]], Any]] = {
    "set": set,
    "frozenset": frozenset,
    "keys": lambda items: dict.fromkeys(items).keys(),
    "values": lambda items: dict(enumerate(items)).values(),
}
_FROM_PAIRS: dict[str, Callable[[dict[Any, Any]], Any]] = {
    "dict": dict,
    "Counter": Counter,
    "OrderedDict": OrderedDict,
    "items": dict.items,
}
_FROM_TEXT: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "text": lambda text: bytes.fromhex(text).decode("utf-8", "surrogatepass"),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "memoryview": lambda text: memoryview(bytes.fromhex(text)),
    "array": lambda parts: array(parts[0], bytes.fromhex(parts[1])),
    "complex": lambda parts: complex(*parts),
    "range": lambda parts: range(*(int(part, 16) for part in parts)),
    "Fraction": lambda parts: Fraction(*(int(part, 16) for part in parts)),
    "Decimal": Decimal,
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timedelta": lambda parts: datetime.timedelta(*parts),
    "builtin": _builtin,
}


def overwrite(value: Any, new: Any, done: _Seen) -> Any:
    """Make ``value`` equal to ``new``, in place as far as its type allows.

    ``done`` holds the values changed before, by id, with their target; they are not changed to another one.

    Returns:
        ``value`` if it could be changed, else ``new``.
    """
    if isinstance(new, _IMMUTABLE):
        return new
    if not isinstance(value, type(new)) or done.setdefault(id(value), (id(new), value))[0] != id(new):
        return new
    if isinstance(value, list | deque):
        both = [
            item if isinstance(item, _IMMUTABLE) else overwrite(old, item, done)
            for old, item in zip(value, new, strict=False)
        ]
        both += list(new)[len(both) :]
        value.clear()
        value.extend(both)
    elif isinstance(value, dict):
        both_of = {key: overwrite(value[key], item, done) if key in value else item for key, item in new.items()}
        value.clear()
        dict.update(value, both_of)
    elif isinstance(value, set):
        value.clear()
        value.update(new)
    elif isinstance(value, bytearray | array):
        value[:] = new
    elif isinstance(value, tuple):
        both = [overwrite(old, item, done) for old, item in zip(value, new, strict=False)]
        return value if len(value) == len(new) and all(map(_unchanged, value, both)) else new
    else:
        return new
    return value


def _unchanged(one: object, other: object) -> bool:
    return one is other or (type(one) is type(other) and one == other)
