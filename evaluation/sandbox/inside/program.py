"""The part that runs the program, and then calls its functions for the judge. Nothing that it says is relied on."""

from __future__ import annotations

import random
import sys
from types import ModuleType
from typing import Any, NoReturn

from . import errors, frames, objects
from .channel import Channel

FILE = "<program>"


def run(asks: int, answers: int) -> None:
    """Read a program, run it, and answer questions about it until they end.

    Args:
        asks: descriptor that the program and the questions come from.
        answers: descriptor for what is answered.
    """
    random.seed(0)  # the same program ends the same way
    source = frames.read(asks)
    module = sys.modules["program"] = ModuleType("program")  # some of the standard library looks a class's module up
    program = _Program(asks, answers, module)
    try:
        program.source = source.decode("utf-8", "surrogatepass").removeprefix("\ufeff")
        exec(compile(program.source, FILE, "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        frames.write_json(answers, program.told(error))
        return
    frames.write_json(answers, ["loaded"])
    try:
        program.wait()
    except EOFError:
        return


class _Program(Channel):
    """The program's side of the pipes."""

    operations = objects.OPERATIONS

    def __init__(self, reads: int, writes: int, module: ModuleType) -> None:
        super().__init__(reads, writes)
        self._module = module
        self.source = ""

    def told(self, error: BaseException) -> list[Any]:
        name, kinds, *rest = errors.told(error, self.refer, self.source, FILE)
        own = [self.refer(type(error))] if errors.is_own(type(error)) else []
        return ["raised", name, [*own, *kinds], *rest]

    def answer(self, operation: str, *content: Any) -> list[Any]:
        try:
            if operation != "names":
                return super().answer(operation, *content)
            names = self._module.__dict__
            return ["names", {name: self._described(name, names[name]) for name in content[0] if name in names}]
        except BaseException as error:
            return self.told(error)

    def raised(self, *content: Any) -> NoReturn:
        name, kinds, said, arguments, _ = content
        raise errors.made(errors.kind_of(kinds), name, said, self.decode(arguments)) or RuntimeError(said)

    def refer(self, value: Any) -> Any:
        """Tests may catch the program's exceptions by their classes."""
        message = super().refer(value)
        if "mine" not in message:
            return message
        number, kind, name = message["mine"]
        if not errors.is_own(value):
            return {"mine": [number, kind, name, *objects.methods_of(value)]}
        bases = [self.encode(base) for base in value.__bases__ if issubclass(base, Exception)]
        return {"exception": [number, name, bases, str(value.__module__)]}

    def kind_of(self, value: Any) -> str:
        """Everything of the program may be used by its tests."""
        if isinstance(value, type):
            return "class"
        try:
            return super().kind_of(value)
        except TypeError:
            return "object"

    def _described(self, name: str, value: Any) -> list[Any]:
        if isinstance(value, ModuleType):
            return ["module", value.__name__]
        home = getattr(value, "__module__", None)
        if isinstance(home, str) and getattr(sys.modules.get(home), name, None) is value and home != "program":
            return ["library", home, self._said(value)]
        return ["value", self._said(value)]

    def _said(self, value: Any) -> Any:
        try:
            return self.encode(value)
        except (TypeError, RecursionError):
            return self.refer(value)
