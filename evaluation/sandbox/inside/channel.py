"""The two pipes between the program and its tests, as one side sees them.

A side asks, and while it waits it answers what the other asks meanwhile: a function of the program that was given a
function of the tests calls that. Functions, iterators and objects pass as numbers of what their side has lent. The
other side can call a function, take a step of an iterator and give all of them back, and nothing else: none has
attributes or methods there, which would answer in place of those of plain data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from . import errors, frames, values


class Borrowed:
    """Stands for something of the other side."""

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


KINDS: dict[str, type[Borrowed]] = {
    "function": _Function,
    "class": _Function,
    "iterator": _Iterator,
    "object": Borrowed,
}
"""What stands for something of the other side, by what it was lent as."""
_STEPS: dict[str, Callable[..., Any]] = {
    "next": next,
    "send": lambda value, item: value.send(item),
    "close": lambda value: value.close(),
}


class Channel:
    """One side of the pipes.

    Args:
        reads: descriptor that the other side's messages come from.
        writes: descriptor for messages to it.

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
        """Ask, and answer what is asked meanwhile; the kind of the answer, and what it says."""
        self._write(["ask", *question])
        return self.wait()

    def wait(self) -> tuple[str, list[Any]]:
        """The next answer."""
        while True:
            kind, *content = frames.read_json(self._reads)
            if kind != "ask":
                return kind, content
            self._write(self.answer(*content))

    def use(self, number: int, operation: str, positional: Any, keywords: dict[str, Any]) -> Any:
        """Ask for an operation on something borrowed; its result, or its exception."""
        given = self.encode([list(positional), keywords])
        kind, content = self.ask(operation, number, given)
        if kind == "stop" and operation in _STEPS:
            raise self.end(*content)
        if kind == "raised":
            self.raised(*content)
        return self.result(kind, content, [*positional, *keywords.values()])

    def result(self, kind: str, content: list[Any], given: list[Any]) -> Any:
        """The result that an answer tells of.

        Args:
            kind: of the answer.
            content: of the answer.
            given: the arguments; those that were changed in place on the other side are so here.

        Raises:
            Exception: of many kinds, where it is no such answer.
        """
        if kind != "returned":
            raise ValueError(f"an answer of kind {kind}")
        result, after = content
        if after is not None:
            positional, keywords = self.decode(after)
            done: dict[int, tuple[int, Any]] = {}
            for old, new in zip(given, [*positional, *keywords.values()], strict=True):
                values.overwrite(old, new, done)
        return given[result["given"]] if isinstance(result, dict) and "given" in result else self.decode(result)

    def answer(self, operation: str, *content: Any) -> list[Any]:
        """Do what the other side asks for: what that comes to, and what its arguments are afterwards, if they changed.

        Raises:
            Exception: what was raised in doing so.
        """
        number, given = content
        value = self._lent[number]
        positional, keywords = self.decode(given)
        if operation not in _STEPS:
            result = self._act(operation, value, positional, keywords)
        else:
            try:
                result = _STEPS[operation](value, *positional)
            except StopIteration as error:
                self.caught(error)
                return ["stop", self.encode(error.value)]
        after = self.encode([positional, keywords])
        places = [place for place, value in enumerate([*positional, *keywords.values()]) if value is result]
        message = {"given": places[0]} if places else self.encode(result)  # it stays the same object
        return ["returned", message, None if after == given else after]

    def _act(self, operation: str, value: Any, positional: list[Any], keywords: dict[str, Any]) -> Any:
        if operation == "call":
            return value(*positional, **keywords)
        return self.operations[operation](value, *positional)

    def raised(self, *content: Any) -> NoReturn:
        """Raise what the other side's exception becomes here."""
        raise NotImplementedError

    def end(self, value: Any) -> StopIteration:
        """What is to be raised at the end of one of the other side's iterators, which has this value."""
        return StopIteration() if value is None else StopIteration(self.decode(value))

    def caught(self, error: BaseException | None) -> None:
        """An exception has come to where it is taken."""

    def kind_of(self, value: Any) -> str:
        """As what something may be lent.

        Raises:
            TypeError: it may not.
        """
        if hasattr(type(value), "__next__"):
            return "iterator"
        if callable(value):
            return "function"
        raise TypeError(f"{type(value).__name__} is not plain data")

    def encode(self, value: Any) -> Any:
        """`values.encode`, where what is not plain data is lent."""
        return values.encode(value, self.refer)

    def decode(self, message: Any) -> Any:
        """`values.decode`, where what is not plain data is borrowed."""
        return values.decode(message, self.resolve)

    def refer(self, value: Any) -> Any:
        """Lend something, or give it back.

        Raises:
            TypeError: it may not be lent.
        """
        if isinstance(value, Borrowed):
            return {"yours": value._borrowed[1]}
        number = self._numbers.get(id(value))
        kind = self.kind_of(value)
        if number is None:
            number = self._numbers[id(value)] = len(self._lent)
            self._lent.append(value)  # kept, so that no other object gets its identity
        return {"mine": [number, kind, str(getattr(value, "__name__", type(value).__name__))[:100]]}

    def resolve(self, message: Any) -> Any:
        """What a message of the other side's `refer` means here.

        Raises:
            Exception: of many kinds, where that made no such message.
        """
        if "yours" in message:
            return self._lent[message["yours"]]
        if "exception" in message:
            number, name, bases, home = message["exception"]
            if number not in self._stand_ins:
                found = errors.of_library(name, home) or errors.own(name, [self.decode(base) for base in bases])
                self._stand_ins[number] = found
            return self._stand_ins[number]
        number, kind, name, *methods = message["mine"]
        if number not in self._stand_ins:
            self._stand_ins[number] = self.stand_in(kind, methods)(self, int(number), str(name))
        return self._stand_ins[number]

    def stand_in(self, kind: str, methods: list[str]) -> type[Borrowed]:
        """The class of what stands for something that is lent as of this kind, with these special methods."""
        return KINDS[kind]

    def _write(self, message: list[Any]) -> None:
        text = json.dumps(message).encode()
        if len(text) > frames.MOST:
            if message[0] == "ask":
                raise ValueError("the arguments are too long")
            said = "the result is too long"
            text = json.dumps(["raised", "ValueError", ["ValueError"], said, [said], ""]).encode()
        frames.write(self._writes, text)
