"""The part that runs the tests, in a process that the program never was in and can't reach.

The names of the program stand for calls to it: arguments and results pass as plain data. So the comparisons are made
here, with built-ins that the program can't change, on values that have no code.
"""

from __future__ import annotations

import ast
import builtins
import random
import sys
from typing import Any, NoReturn

from . import frames, values

Verdict = tuple[str, str]
"""Reason and detail of an `Outcome`; ``gone``: the program's part closed its pipe or ended."""


_LIBRARY = {*sys.stdlib_module_names, "os.path", "collections.abc"}
_GARBAGE = "it wrote to the pipe of its answers"


class _EndedError(BaseException):
    """The verdict is clear, whatever the tests catch."""


class _Program:
    """The program, as the tests see it."""

    def __init__(self, asks: int, answers: int) -> None:
        self._asks, self._answers = asks, answers
        self.verdict: Verdict | None = None

    def await_loaded(self) -> None:
        self._read("loaded", 0)

    def names(self, wanted: list[str]) -> dict[str, Any]:
        """What the program has of these names."""
        found = {}
        try:
            for name, (kind, *what) in self._ask(["names", wanted], "names", 1)[0].items():
                if kind == "function":
                    found[name] = self._function(name)
                elif kind == "module" and what[0] in sys.modules and what[0] in _LIBRARY:
                    found[name] = sys.modules[what[0]]  # nothing is imported because a program says so
                elif kind == "value":
                    found[name] = values.decode(what[0])
                elif kind == "other":
                    found[name] = values.Named(name)
        except Exception:
            self._end("crashed", _GARBAGE)
        return found

    def _function(self, name: str) -> Any:
        def call(*positional: Any, **keywords: Any) -> Any:
            given = values.encode([list(positional), keywords])
            result, after = self._ask(["call", name, given], "returned", 2)
            try:
                result, after = values.decode(result), values.decode(after)
                for old, new in zip(positional, after[0] if after else (), strict=False):
                    values.overwrite(old, new)
            except MemoryError:
                raise
            except Exception:
                self._end("crashed", _GARBAGE)
            return result

        call.__name__ = call.__qualname__ = name
        return call

    def _ask(self, message: list[Any], kind: str, size: int) -> list[Any]:
        try:
            frames.write_json(self._asks, message)
        except OSError:
            self._end("gone", "")
        return self._read(kind, size)

    def _read(self, kind: str, size: int) -> list[Any]:
        """The next answer, without its kind; an exception of the program is raised here."""
        try:
            found, *rest = frames.read_json(self._answers)
        except EOFError:
            self._end("gone", "")
        except MemoryError:
            raise
        except Exception:
            self._end("crashed", _GARBAGE)
        if found == "raised" and len(rest) == 3 and isinstance(rest[1], list):
            self._raise(str(rest[0]), [str(text) for text in rest[1]], str(rest[2]))
        if found != kind or len(rest) != size:
            self._end("crashed", _GARBAGE)
        return rest

    def _raise(self, name: str, kinds: list[str], said: str) -> NoReturn:
        """Raise what was raised in the program; what is meant to end a process ends the tests."""
        kind = next((found for text in kinds if isinstance(found := getattr(builtins, text, None), type)), None)
        if kind is SystemExit:
            self._end("exited", "")
        if kind is None or not issubclass(kind, Exception):
            self._end("failed", _one_line(name, said))
        if kind.__name__ != name:
            kind = type(name, (kind,), {})
        try:
            error = kind(said)
        except TypeError:  # some take more than one argument
            error = type(name, (Exception,), {})(said)
        raise error

    def _end(self, reason: str, detail: str) -> NoReturn:
        if self.verdict is None:
            self.verdict = (reason, detail)
        raise _EndedError


def judge(tests: str, own: list[str], asks: int, answers: int) -> Verdict:
    """Run tests against the program at the other end of two pipes.

    Args:
        tests: Python source; what it names and doesn't define comes from the program, but for built-ins.
        own: names that come from the program though there are such built-ins.
        asks: descriptor for questions to the program.
        answers: descriptor of its answers.
    """
    random.seed(0)  # the same program gets the same verdict
    program = _Program(asks, answers)
    try:
        verdict = _run(tests, own, program)
    except _EndedError:
        verdict = ("failed", "")
    except MemoryError:
        verdict = ("memory", "")
    except BaseException as error:
        verdict = ("failed", _said(error, tests))
    return program.verdict or verdict


def _run(tests: str, own: list[str], program: _Program) -> Verdict:
    program.await_loaded()
    code = compile(tests, "<tests>", "exec", dont_inherit=True)
    used = {node.id for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Name)}
    wanted = sorted(name for name in used if name in own or not hasattr(builtins, name))
    names = program.names(wanted) if wanted else {}
    exec(code, {"__name__": "tests", **names})
    return "passed", ""


def _said(error: BaseException, tests: str) -> str:
    """Exception and message, or the line of the tests where it has none."""
    try:
        said = str(error)
    except Exception:
        said = ""
    trace = error.__traceback__
    while not said and trace is not None:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            said = tests.split("\n")[trace.tb_lineno - 1].strip()
        trace = trace.tb_next
    return _one_line(type(error).__name__, said)


def _one_line(name: str, said: str) -> str:
    return " ".join((f"{name}: {said}" if said else name).split())[:300]
