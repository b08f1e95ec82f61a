"""The part that runs the tests, in a process that the program never was in and can't reach.

The names of the program stand for calls to it: arguments and results pass as plain data. So the comparisons are made
here, with built-ins that the program can't change, on values that have no code.
"""

from __future__ import annotations

import ast
import builtins
import random
import symtable
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from . import errors
from .channel import Channel

Verdict = tuple[str, str]
"""Reason and detail of an `Outcome`; ``gone``: the program's part closed its pipe or ended."""


FILE = "<tests>"
_GARBAGE = "it wrote to the pipe of its answers"
_CAUGHT, _PASSING = "<caught>", "<passing>"  # no program's and no test's names


class _EndedError(BaseException):
    """The verdict is clear, whatever the tests catch."""


class _Program(Channel):
    """The program, as the tests see it."""

    def __init__(self, asks: int, answers: int) -> None:
        super().__init__(answers, asks)
        self.verdict: Verdict | None = None
        self.uncaught: list[BaseException] = []
        self._lines: dict[int, str] = {}

    def await_loaded(self) -> None:
        kind, content = self.wait()
        if kind == "raised":
            self.raised(*content)
        if (kind, content) != ("loaded", []):
            self._end("crashed", _GARBAGE)

    def names(self, wanted: set[str], dotted: set[str]) -> dict[str, Any]:
        """What the program has of these names.

        Args:
            wanted: names.
            dotted: those whose attributes the tests use: a module's must be the module.
        """
        kind, content = self.ask("names", sorted(wanted))
        found = {}
        try:
            (described,) = content
            if kind != "names" or not described.keys() <= wanted:
                raise ValueError(kind)
            for name, (what, value) in described.items():
                if what == "value":
                    if not (name in dotted and name in sys.stdlib_module_names):
                        found[name] = self.decode(value)
                # nothing is imported because a program says so
                elif what == "module" and value == name and name in sys.modules and name in sys.stdlib_module_names:
                    found[name] = sys.modules[name]
                elif what == "library" and value.partition(".")[0] in sys.stdlib_module_names and value in sys.modules:
                    found[name] = getattr(sys.modules[value], name)
        except MemoryError:
            raise
        except Exception:
            self._end("crashed", _GARBAGE)
        return found

    def ask(self, *question: Any) -> tuple[str, list[Any]]:
        if self.verdict is not None:
            raise _EndedError
        try:
            return super().ask(*question)
        except OSError:
            self._end("gone", "")

    def wait(self) -> tuple[str, list[Any]]:
        try:
            return super().wait()
        except (EOFError, OSError):
            self._end("gone", "")
        except MemoryError:
            raise
        except Exception:
            self._end("crashed", _GARBAGE)

    def answer(self, operation: str, *content: Any) -> list[Any]:
        """What a function or an iterator of the tests, which was an argument, says to the program."""
        try:
            return super().answer(operation, *content)
        except MemoryError:
            raise
        except Exception as error:
            self.caught(error)  # what becomes of it is up to the program
            return ["raised", *errors.told(error, self.refer)]

    def _result(self, kind: str, content: list[Any]) -> tuple[Any, Any]:
        try:
            result, after = super()._result(kind, content)
        except MemoryError:
            raise
        except Exception:
            self._end("crashed", _GARBAGE)
        return result, after

    def raised(self, *content: Any) -> NoReturn:
        """Raise what was raised in the program; what is meant to end a process ends the tests."""
        try:
            name, kinds, said, arguments, line = content
            kind = errors.kind_of(kinds)
            error = errors.made(kind, name, said, self.decode(arguments))
        except MemoryError:
            raise
        except Exception:
            self._end("crashed", _GARBAGE)
        if kind is SystemExit:
            self._end("exited", "")
        if error is None:
            self._end("failed", f"{name}: {said or line}")
        self.uncaught.append(error)
        self._lines[id(error)] = line
        raise error

    def caught(self, error: BaseException | None) -> None:
        """The tests expect this exception, and what it comes from."""
        while error is not None:
            self.uncaught = [other for other in self.uncaught if other is not error]
            error = error.__cause__ or error.__context__

    def said(self, error: BaseException, tests: str) -> str:
        """Exception and message, or the line where it has none."""
        try:
            said = str(error) or self._lines.get(id(error)) or errors.line(error, tests, FILE)
        except Exception:
            said = ""
        name = type(error).__name__
        return f"{name}: {said}" if said else name

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
    tests = tests.removeprefix("\ufeff")
    try:
        _run(tests, set(own), program)
        verdict = ("passed", "")
        if program.uncaught:
            verdict = ("failed", program.said(program.uncaught[0], tests))
    except _EndedError:
        verdict = ("failed", "")
    except MemoryError:
        verdict = ("memory", "")
    except BaseException as error:
        verdict = ("failed", program.said(error, tests))
    return program.verdict or verdict


def _run(tests: str, own: set[str], program: _Program) -> None:
    program.await_loaded()
    tree = ast.parse(tests, FILE)
    free = _free_names(tests)
    wanted = {name for name in free if not name.startswith("__") and (name in own or not hasattr(builtins, name))}
    dotted = {
        node.value.id for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    names = program.names(wanted, dotted - own) if wanted else {}

    def caught() -> None:
        program.caught(sys.exc_info()[1])

    def passing() -> None:
        if not isinstance(sys.exc_info()[1], StopIteration | StopAsyncIteration):  # that a loop outside may take
            caught()

    given = {"__name__": "tests", "__builtins__": builtins, _CAUGHT: caught, _PASSING: passing}
    exec(compile(_Watched().visit(tree), FILE, "exec", dont_inherit=True), given | names)


def _free_names(tests: str) -> set[str]:
    """What the tests use and nowhere define."""

    def tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
        yield table
        for inner in table.get_children():
            yield from tables(inner)

    top = symtable.symtable(tests, FILE, "exec")
    used: set[str] = set()
    bound: set[str] = set()
    for table in tables(top):
        for symbol in table.get_symbols():
            if table is top or symbol.is_global():
                kinds = symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
                (bound if kinds else used).add(symbol.get_name())
    return used - bound


class _Watched(ast.NodeTransformer):
    """Tests that say which exceptions they expect: those that come to an ``except``, or to the end of a ``with``.

    Much else ends with an exception and goes on, as a loop does with `StopIteration`. A program must not get past its
    tests in that way.
    """

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        self.generic_visit(node)
        node.body.insert(0, _called(_CAUGHT, node))
        return node

    def visit_With(self, node: ast.With) -> ast.AST:
        self.generic_visit(node)
        handler = ast.ExceptHandler(type=None, name=None, body=[_called(_PASSING, node), ast.Raise()])
        watched = ast.Try(body=node.body, handlers=[handler], orelse=[], finalbody=[])
        node.body = [ast.fix_missing_locations(ast.copy_location(watched, node))]
        return node


def _called(name: str, place: ast.AST) -> ast.stmt:
    call = ast.Expr(ast.Call(ast.Name(name, ast.Load()), [], []))
    return ast.fix_missing_locations(ast.copy_location(call, place))
