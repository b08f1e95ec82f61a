"""The part that runs the program, and then calls its functions for the judge. Nothing that it says is relied on."""

from __future__ import annotations

import builtins
import json
import random
import sys
from types import ModuleType
from typing import Any

from . import frames, values


def run(asks: int, answers: int) -> None:
    """Read a program, run it, and answer questions about it until they end.

    Args:
        asks: descriptor that the program and the questions come from.
        answers: descriptor for what is answered.
    """
    random.seed(0)  # the same program ends the same way
    source = frames.read(asks)
    module = sys.modules["program"] = ModuleType("program")  # some of the standard library looks a class's module up
    text = ""
    try:
        text = source.decode("utf-8", "surrogatepass")
        exec(compile(text, "<program>", "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        frames.write_json(answers, _raised(error, text))
        return
    frames.write_json(answers, ["loaded"])
    while True:
        try:
            ask = frames.read_json(asks)
        except EOFError:
            return
        answer = json.dumps(_answer(ask, module.__dict__, text)).encode()
        if len(answer) > frames.MOST:
            answer = json.dumps(["raised", "ValueError", ["ValueError"], "the result is too long"]).encode()
        frames.write(answers, answer)


def _answer(ask: list[Any], names: dict[str, Any], text: str) -> list[Any]:
    try:
        if ask[0] == "names":
            return ["names", {name: _described(name, names[name]) for name in ask[1] if name in names}]
        _, name, given = ask
        positional, keywords = values.decode(given)
        found = [_found(value, names) for value in positional]
        result = values.encode(names[name](*found, **{key: _found(value, names) for key, value in keywords.items()}))
        after = values.encode([positional, keywords])
        return ["returned", result, None if after == given else after]
    except BaseException as error:
        return _raised(error, text)


def _found(value: Any, names: dict[str, Any]) -> Any:
    return names[value.name] if isinstance(value, values.Named) else value


def _described(name: str, value: Any) -> list[Any]:
    if isinstance(value, ModuleType):
        return ["module", value.__name__]
    if callable(value):
        return ["function"]
    try:
        return ["value", values.encode(value)]
    except (TypeError, RecursionError):
        return ["other", name]


def _raised(error: BaseException, text: str) -> list[Any]:
    """What is known of an exception: its name, its nearest built-in classes, what it says."""
    try:
        said = str(error) or _line(error, text)
    except BaseException:
        said = ""  # the error fails at saying it
    kinds = [kind.__name__ for kind in type(error).__mro__ if getattr(builtins, kind.__name__, None) is kind]
    return ["raised", type(error).__name__[:100], kinds, said[:300].encode("utf-8", "replace").decode()]


def _line(error: BaseException, text: str) -> str:
    """The innermost line of the program that an exception comes from."""
    trace, line = error.__traceback__, ""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<program>":
            line = text.split("\n")[trace.tb_lineno - 1]
        trace = trace.tb_next
    return line.strip()
