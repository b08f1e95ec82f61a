"""Calls between the program and its tests over two pipes.

Each side asks, and answers what the other asks while it waits: a program that was given a function of the tests calls
it. Functions, iterators and objects pass as the number under which their side has lent them. The other side holds a
stand-in, with which it can call a function, step an iterator and give either back, and nothing else: stand-ins have no
attributes or methods that could answer in place of plain data. A malformed message raises an exception of any kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from . import exceptions, messages, serialize


class Borrowed:
    """A stand-in for something of the other side."""

    def __init__(self, channel: Channel, number: int, name: str) -> None:
        self._borrowed, self.__name__ = (channel, number), name

    def __repr__(self) -> str:
        return f"<{self.__name__}>"


class _Function(Borrowed):
    def __call__(self, /, *positional: Any, **keywords: Any) -> Any:
        channel, number = self._borrowed
        return channel.use(number, "call", positional, keywords)


class _Iterator(Borrowed):
    def __iter__(self) -> _Iterator:
        return self

    def __next__(self) -> Any:
        channel, number = self._borrowed
        return channel.use(number, "next", (), {})

    def send(self, value: Any) -> Any:
        channel, number = self._borrowed
        return channel.use(number, "send", (value,), {})

    def close(self) -> None:
        channel, number = self._borrowed
        channel.use(number, "close", (), {})


STAND_INS: dict[str, type[Borrowed]] = {
    "function": _Function,
    "class": _Function,
    "iterator": _Iterator,
    "object": Borrowed,
}
"""The class of a stand-in, by the kind of what was lent."""
_STEPS: dict[str, Callable[..., Any]] = {
    "next": next,
    "send": lambda value, item: value.send(item),
    "close": lambda value: value.close(),
}


class Channel:
    """One side of the pipes: messages of the other side come from ``reads``, those to it go to ``writes``.

    Attributes:
        operations: what the other side may ask for beside calls and steps.
    """

    operations: Mapping[str, Callable[..., Any]] = {}

    def __init__(self, reads: int, writes: int) -> None:
        self._reads, self._writes = reads, writes
        self._lent: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._stand_ins: dict[int, Any] = {}

    def ask(self, *question: Any) -> tuple[str, list[Any]]:
        """Ask, answer what is asked meanwhile, and return the kind and content of the answer."""
        self._write(["ask", *question])
        return self.wait()

    def wait(self) -> tuple[str, list[Any]]:
        """The next answer."""
        while True:
            kind, *content = messages.read_json(self._reads)
            if kind != "ask":
                return kind, content
            self._write(self.answer(*content))

    def use(self, number: int, operation: str, positional: Any, keywords: dict[str, Any]) -> Any:
        """Ask for an operation on something borrowed; return its result or raise its exception."""
        arguments = self.encode([list(positional), keywords])
        kind, content = self.ask(operation, number, arguments)
        if kind == "stop" and operation in _STEPS:
            raise self.end(*content)
        if kind == "raised":
            self.raised(*content)
        return self.result(kind, content, [*positional, *keywords.values()])

    def result(self, kind: str, content: list[Any], arguments: list[Any]) -> Any:
        """The result in an answer; ``arguments`` that the other side changed in place are changed here, too."""
        if kind != "returned":
            raise ValueError(f"an answer of kind {kind}")
        result, after = content
        if after is not None:
            positional, keywords = self.decode(after)
            done: dict[int, tuple[int, Any]] = {}
            for old, new in zip(arguments, [*positional, *keywords.values()], strict=True):
                serialize.overwrite(old, new, done)
        return arguments[result["given"]] if isinstance(result, dict) and "given" in result else self.decode(result)

    def answer(self, operation: str, *content: Any) -> list[Any]:
        """Do what the other side asks: the result, and the arguments afterwards if they changed."""
        number, arguments = content
        value = self._lent[number]
        positional, keywords = self.decode(arguments)
        if operation == "call":
            result = value(*positional, **keywords)
        elif operation not in _STEPS:
            result = self.operations[operation](value, *positional)
        else:
            try:
                result = _STEPS[operation](value, *positional)
            except StopIteration as error:
                self.caught(error)
                return ["stop", self.encode(error.value)]
        after = self.encode([positional, keywords])
        same = [index for index, item in enumerate([*positional, *keywords.values()]) if item is result]
        message = {"given": same[0]} if same else self.encode(result)  # an argument stays the same object
        return ["returned", message, None if after == arguments else after]

    def raised(self, *content: Any) -> NoReturn:
        """Raise the counterpart of the other side's exception."""
        raise NotImplementedError

    def end(self, value: Any) -> StopIteration:
        """The exception for the end of one of the other side's iterators, with its value."""
        return StopIteration() if value is None else StopIteration(self.decode(value))

    def caught(self, error: BaseException | None) -> None:
        """An exception has reached the code that handles it."""

    def kind_of(self, value: Any) -> str:
        """The kind as which something may be lent; TypeError if it may not."""
        if hasattr(type(value), "__next__"):
            return "iterator"
        if callable(value):
            return "function"
        raise TypeError(f"{type(value).__name__} is not plain data")

    def encode(self, value: Any) -> Any:
        """`serialize.encode`; what is not plain data is lent."""
        return serialize.encode(value, self.refer)

    def decode(self, message: Any) -> Any:
        """`serialize.decode`; what is not plain data is borrowed."""
        return serialize.decode(message, self.resolve)

    def refer(self, value: Any) -> Any:
        """Lend something, or give it back; TypeError if it may not be lent."""
        if isinstance(value, Borrowed):
            return {"yours": value._borrowed[1]}
        number = self._numbers.get(id(value))
        kind = self.kind_of(value)
        if number is None:
            number = self._numbers[id(value)] = len(self._lent)
            self._lent.append(value)  # kept alive, so that no other object gets its id
        return {"mine": [number, kind, str(getattr(value, "__name__", type(value).__name__))[:100]]}

    def resolve(self, message: Any) -> Any:
        """What a message of the other side's `refer` stands for."""
        if "yours" in message:
            return self._lent[message["yours"]]
        if "exception" in message:
            number, name, bases, home = message["exception"]
            if number not in self._stand_ins:
                known = exceptions.from_library(name, home)
                self._stand_ins[number] = known or exceptions.make_class(name, [self.decode(base) for base in bases])
            return self._stand_ins[number]
        number, kind, name, *methods = message["mine"]
        if number not in self._stand_ins:
            self._stand_ins[number] = self.stand_in(kind, methods)(self, int(number), str(name))
        return self._stand_ins[number]

    def stand_in(self, kind: str, methods: list[str]) -> type[Borrowed]:
        """The class of a stand-in for something of this kind with these special methods."""
        return STAND_INS[kind]

    def _write(self, message: list[Any]) -> None:
        text = json.dumps(message).encode()
        if len(text) > messages.MAX_BYTES:
            if message[0] == "ask":
                raise ValueError("the arguments are too long")
            reason = "the result is too long"
            text = json.dumps(["raised", "ValueError", ["ValueError"], reason, [reason], ""]).encode()
        messages.write(self._writes, text)
