"""The process that runs the program, then calls its functions for the judge. Nothing it says is trusted."""

from __future__ import annotations

import random
import sys
from types import ModuleType
from typing import Any, NoReturn

from . import exceptions, messages, objects
from .channel import Channel

FILE = "<program>"


def run(asks: int, answers: int) -> None:
    """Read a program from the pipe ``asks``, run it, and answer the questions about it until they end."""
    random.seed(0)  # the same program ends the same way
    source = messages.read(asks)
    module = sys.modules["program"] = ModuleType("program")  # the standard library looks up the module of some classes
    program = _Program(asks, answers, module)
    try:
        program.source = source.decode("utf-8", "surrogatepass").removeprefix("\ufeff")
        exec(compile(program.source, FILE, "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        messages.write_json(answers, program.describe_error(error))
        return
    messages.write_json(answers, ["loaded"])
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

    def describe_error(self, error: BaseException) -> list[Any]:
        name, bases, *rest = exceptions.describe(error, self.refer, self.source, FILE)
        own = [self.refer(type(error))] if exceptions.is_custom(type(error)) else []
        return ["raised", name, [*own, *bases], *rest]

    def answer(self, operation: str, *content: Any) -> list[Any]:
        try:
            if operation != "names":
                return super().answer(operation, *content)
            names = self._module.__dict__
            return ["names", {name: self._describe(name, names[name]) for name in content[0] if name in names}]
        except BaseException as error:
            return self.describe_error(error)

    def raised(self, *content: Any) -> NoReturn:
        name, bases, message, arguments, _ = content
        error = exceptions.rebuild(exceptions.nearest_class(bases), name, message, self.decode(arguments))
        raise error or RuntimeError(message)

    def refer(self, value: Any) -> Any:
        """Exception classes pass as such, so that tests can catch them."""
        message = super().refer(value)
        if "mine" not in message:
            return message
        number, kind, name = message["mine"]
        if not exceptions.is_custom(value):
            return {"mine": [number, kind, name, *objects.methods_of(value)]}
        bases = [self.encode(base) for base in value.__bases__ if issubclass(base, Exception)]
        return {"exception": [number, name, bases, str(value.__module__)]}

    def kind_of(self, value: Any) -> str:
        """The tests may use everything of the program."""
        if isinstance(value, type):
            return "class"
        try:
            return super().kind_of(value)
        except TypeError:
            return "object"

    def _describe(self, name: str, value: Any) -> list[Any]:
        if isinstance(value, ModuleType):
            return ["module", value.__name__]
        home = getattr(value, "__module__", None)
        if isinstance(home, str) and getattr(sys.modules.get(home), name, None) is value and home != "program":
            return ["library", home, self._encode_or_refer(value)]
        return ["value", self._encode_or_refer(value)]

    def _encode_or_refer(self, value: Any) -> Any:
        try:
            return self.encode(value)
        except (TypeError, RecursionError):
            return self.refer(value)
