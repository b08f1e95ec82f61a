"""The part that runs the tests, in a process that the program never was in and can't reach.

The names of the program stand for calls to it: arguments and results pass as plain data. So the comparisons are made
here, with built-ins that the program can't change, on values that have no code.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import random
import symtable
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

from . import errors, objects
from .channel import Borrowed, Channel

Verdict = tuple[str, str]
"""Reason and detail of an `Outcome`; ``gone``: the program's part closed its pipe or ended."""


FILE = "<tests>"
_GARBAGE = "it wrote to the pipe of its answers"
_Raised = tuple[BaseException, str]
"""An exception of the program, and the line that it comes from."""

_KEPT = 1000  # exceptions
_LONGEST = 1000  # characters of a detail; the evaluation shows fewer
_CAUGHT, _LOST = "<caught>", "<lost>"  # no program's and no test's names


class _EndedError(BaseException):
    """The verdict is clear, whatever the tests catch."""


class _Program(Channel):
    """The program, as the tests see it."""

    def __init__(self, asks: int, answers: int) -> None:
        super().__init__(answers, asks)
        self.verdict: Verdict | None = None
        self._asks_objects = False
        self._uncaught: list[_Raised] = []
        self._caught: list[_Raised] = []

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
        found: dict[str, Any] = {}
        with self._reading():
            (described,) = content
            if kind != "names" or not described.keys() <= wanted:
                raise ValueError(kind)
            if any(name[0].isupper() and _is_class(*said) for name, said in described.items()):
                self._asks_objects = True
            for name, (what, said, *value) in described.items():
                is_module = name in dotted and name in sys.stdlib_module_names
                # nothing is imported because a program alone says so
                if what == "module" and said == name and (is_module or name in _loaded()):
                    found[name] = importlib.import_module(name)
                elif what == "library" and said in _loaded():
                    found[name] = getattr(sys.modules[said], name)
                elif not is_module and (what == "value" or (what == "library" and value)):
                    decoded = self.decode(said if what == "value" else value[0])
                    if not _takes_failures(decoded):
                        found[name] = decoded
        return found

    def ask(self, *question: Any) -> tuple[str, list[Any]]:
        if self.verdict is not None:
            raise _EndedError
        try:
            return super().ask(*question)
        except OSError:
            self._end("gone", "")

    def wait(self) -> tuple[str, list[Any]]:
        with self._reading():
            return super().wait()

    def answer(self, operation: str, *content: Any) -> list[Any]:
        """What a function or an iterator of the tests, which was an argument, says to the program."""
        try:
            return super().answer(operation, *content)
        except MemoryError:
            raise
        except Exception as error:
            self.caught(error)  # what becomes of it is up to the program
            return ["raised", *errors.told(error, self.refer)]

    def result(self, kind: str, content: list[Any], given: list[Any]) -> Any:
        with self._reading():
            return super().result(kind, content, given)

    def raised(self, *content: Any) -> NoReturn:
        """Raise what was raised in the program; what is meant to end a process ends the tests."""
        with self._reading():
            name, kinds, said, arguments, line = content
            kind = errors.kind_of([self.decode(kind) for kind in kinds])
            error = errors.made(kind, name, said, self.decode(arguments))
        if kind is SystemExit:
            self._end("exited", "")
        if error is None:
            self._end("failed", f"{name}: {said or line}")
        if not _is_expected_by_unittest(error):
            self._uncaught.append((error, line))
        raise error

    def stand_in(self, kind: str, methods: list[str]) -> type[Borrowed]:
        return objects.kind_of(kind, tuple(methods)) if self._asks_objects else super().stand_in(kind, methods)

    def end(self, value: Any) -> StopIteration:
        with self._reading():
            return super().end(value)

    def next(self, iterator: Iterator[Any], *default: Any) -> Any:
        """`next` of the tests. Their function that it ends is not to end `all` or `map`, which call that, as well."""
        try:
            return next(iterator, *default)
        except StopIteration as error:
            if sys._getframe(1).f_code.co_name != "__next__" and not _is_expected_by_unittest(error):
                self._uncaught.append((error, ""))
            raise

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """End the tests where what the program says can't be read; no exception of that kind reaches them."""
        try:
            yield
        except (EOFError, OSError):
            self._end("gone", "")
        except MemoryError:
            self._end("memory", "")
        except Exception:
            self._end("crashed", _GARBAGE)

    def caught(self, error: BaseException | None) -> None:
        """The tests take this exception, and what it comes from."""
        self._move(error, self._uncaught, self._caught)

    def lost(self, error: BaseException | None) -> None:
        """The tests have not kept this exception, nor what it comes from."""
        self._move(error, self._caught, self._uncaught)

    @staticmethod
    def _move(error: BaseException | None, source: list[_Raised], target: list[_Raised]) -> None:
        while error is not None:
            moved = [pair for pair in source if pair[0] is error]
            source[:] = [pair for pair in source if pair[0] is not error]
            target[:] = [*target, *moved][-_KEPT:]
            error = error.__cause__ or error.__context__

    def raise_uncaught(self) -> None:
        """Raise the first exception that something else than the tests has taken."""
        for error, _ in self._uncaught:
            raise error

    def said(self, error: BaseException, tests: str) -> str:
        """Exception and message, or the line where it has none."""
        try:
            lines = [line for other, line in self._uncaught + self._caught if other is error]
            said = str(error) or "".join(lines) or errors.line(error, tests, FILE)
        except Exception:
            said = ""
        name = type(error).__name__
        return f"{name}: {said}" if said else name

    def _end(self, reason: str, detail: str) -> NoReturn:
        if self.verdict is None:
            self.verdict = (reason, detail)
        raise _EndedError


def _is_class(what: str, *said: Any) -> bool:
    """Whether a name is described as that of a class of the program, which is not one of exceptions."""
    return what == "value" and isinstance(said[0], dict) and said[0].get("mine", ("", ""))[1] == "class"


def _loaded() -> set[str]:
    """The modules of the standard library that are here."""
    return {name for name in sys.modules if name.partition(".")[0] in sys.stdlib_module_names}


def _takes_failures(value: Any) -> bool:
    """Whether an ``except`` of this, if it is a class or some, would take a failed assertion of the tests."""
    if isinstance(value, tuple | list):
        return any(map(_takes_failures, value))
    return isinstance(value, type) and issubclass(AssertionError, value)


def _is_expected_by_unittest(error: BaseException) -> bool:
    """Whether `unittest` itself calls the program and expects that, as in ``assertRaises(ValueError, f, 1)``."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    if frame.f_globals.get("__name__") != "unittest.case":
        return False
    return isinstance(error, getattr(frame.f_locals.get("self"), "expected", ()))


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
        program.raise_uncaught()
        verdict = ("passed", "")
    except _EndedError:
        verdict = ("failed", "")
    except MemoryError:
        verdict = ("memory", "")
    except BaseException as error:
        verdict = ("failed", program.said(error, tests))
    reason, detail = program.verdict or verdict
    return reason, detail[:_LONGEST]


def _run(tests: str, own: set[str], program: _Program) -> None:
    program.await_loaded()
    tree = ast.parse(tests, FILE)
    free = _free_names(tests)
    wanted = {name for name in free if not name.startswith("__") and (name in own or not hasattr(builtins, name))}
    nodes = list(ast.walk(tree))
    dotted = {node.value.id for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}
    names = program.names(wanted, dotted - own) if wanted else {}

    def caught() -> None:
        program.caught(sys.exc_info()[1])

    def lost() -> None:
        program.lost(sys.exc_info()[1])

    if any(isinstance(node, ast.ExceptHandler | ast.With) for node in nodes):
        tree = ast.fix_missing_locations(_Watched().visit(tree))
    module = sys.modules["tests"] = ModuleType("tests")  # some of the standard library looks a class's module up
    module.__dict__.update({"__builtins__": builtins, "next": program.next, _CAUGHT: caught, _LOST: lost, **names})
    exec(compile(tree, FILE, "exec", dont_inherit=True), module.__dict__)


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
    """Tests that say which exceptions they take: those that come to an ``except``, or to the end of a ``with``.

    Much else ends with an exception and goes on, as a loop does with `StopIteration`. A program must not get past its
    tests in that way. What leaves the ``except`` or the ``with`` again is not taken.
    """

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        self.generic_visit(node)
        node.body = [_call(_CAUGHT, node), _passing(node.body, _LOST, node)]
        return node

    def visit_With(self, node: ast.With) -> ast.AST:
        self.generic_visit(node)
        node.body = [_passing(node.body, _CAUGHT, node)]
        return _passing([node], _LOST, node)


def _passing(body: list[ast.stmt], name: str, place: ast.AST) -> ast.stmt:
    """Statements, with a call whenever an exception leaves them."""
    handler = ast.ExceptHandler(type=None, name=None, body=[_call(name, place), ast.Raise()])
    return ast.copy_location(ast.Try(body=body, handlers=[handler], orelse=[], finalbody=[]), place)


def _call(name: str, place: ast.AST) -> ast.stmt:
    return ast.copy_location(ast.Expr(ast.Call(ast.Name(name, ast.Load()), [], [])), place)
