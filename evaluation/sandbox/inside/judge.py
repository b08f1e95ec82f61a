"""The process that runs the tests; the program never runs here and can't reach it.

The program's names stand for calls to its process, with arguments and results as plain data. All comparisons happen
here, with built-ins that the program can't change, on values without code.
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

from . import exceptions, objects
from .channel import Borrowed, Channel

Result = tuple[str, str]
"""Reason and detail of a verdict; reason ``gone``: the program's process closed its pipe or ended."""

FILE = "<tests>"
_GARBAGE = "it wrote to the pipe of its answers"
_MAX_CAUGHT = 1000  # exceptions
_MAX_DETAIL = 1000  # characters; the caller keeps fewer
_CAUGHT, _LOST = "<caught>", "<lost>"  # hooks in the tests, under names that no source can have
_Raised = tuple[BaseException, str]
"""An exception of the program, and the source line that raised it."""


class _EndedError(BaseException):
    """Ends the tests with a verdict; a BaseException, so that they can't catch it."""


class _RemoteProgram(Channel):
    """The judge's side of the pipes."""

    def __init__(self, asks: int, answers: int) -> None:
        super().__init__(answers, asks)
        self.verdict: Result | None = None
        self._asks_objects = False
        self._uncaught: list[_Raised] = []
        self._caught: list[_Raised] = []

    def await_loaded(self) -> None:
        kind, content = self.wait()
        if kind == "raised":
            self.raised(*content)
        if (kind, content) != ("loaded", []):
            self._end("crashed", _GARBAGE)

    def names(self, requested: set[str], dotted: set[str]) -> dict[str, Any]:
        """The program's values of the ``requested`` names, as far as it has them.

        The tests use attributes of ``dotted`` names. If a module of the standard library has such a name, only that
        module will do.
        """
        kind, content = self.ask("names", sorted(requested))
        found: dict[str, Any] = {}
        with self._reading():
            (described,) = content
            if kind != "names" or not described.keys() <= requested:
                raise ValueError(kind)
            if any(name[0].isupper() and _is_class(*description) for name, description in described.items()):
                self._asks_objects = True
            for name, (what, detail, *value) in described.items():
                is_module = name in dotted and name in sys.stdlib_module_names
                # never import a module on the program's word alone
                if what == "module" and detail == name and (is_module or name in _loaded()):
                    found[name] = importlib.import_module(name)
                elif what == "library" and detail in _loaded():
                    found[name] = getattr(sys.modules[detail], name)
                elif not is_module and (what == "value" or (what == "library" and value)):
                    decoded = self.decode(detail if what == "value" else value[0])
                    if not _catches_failures(decoded):
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
        """Answer the program, which uses a function or an iterator that the tests passed to it."""
        try:
            return super().answer(operation, *content)
        except MemoryError:
            raise
        except Exception as error:
            self.caught(error)  # the program may handle it
            return ["raised", *exceptions.describe(error, self.refer)]

    def result(self, kind: str, content: list[Any], arguments: list[Any]) -> Any:
        with self._reading():
            return super().result(kind, content, arguments)

    def raised(self, *content: Any) -> NoReturn:
        """Raise the program's exception; one that ends a process ends the tests."""
        with self._reading():
            name, bases, message, arguments, line = content
            base = exceptions.nearest_class([self.decode(base) for base in bases])
            error = exceptions.rebuild(base, name, message, self.decode(arguments))
        if base is SystemExit:
            self._end("exited", "")
        if error is None:
            self._end("failed", f"{name}: {message or line}")
        if not _is_expected_by_unittest(error):
            self._uncaught.append((error, line))
        raise error

    def stand_in(self, kind: str, methods: list[str]) -> type[Borrowed]:
        return objects.stand_in_class(kind, tuple(methods)) if self._asks_objects else super().stand_in(kind, methods)

    def end(self, value: Any) -> StopIteration:
        with self._reading():
            return super().end(value)

    def next(self, iterator: Iterator[Any], *default: Any) -> Any:
        """`next` of the tests: a StopIteration must not also end an `all` or `map` that called the tests' function."""
        try:
            return next(iterator, *default)
        except StopIteration as error:
            if sys._getframe(1).f_code.co_name != "__next__" and not _is_expected_by_unittest(error):
                self._uncaught.append((error, ""))
            raise

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """End the tests if a message can't be read; they never see such an exception."""
        try:
            yield
        except (EOFError, OSError):
            self._end("gone", "")
        except MemoryError:
            self._end("memory", "")
        except Exception:
            self._end("crashed", _GARBAGE)

    def caught(self, error: BaseException | None) -> None:
        """The tests handle this exception, and those that caused it."""
        self._move(error, self._uncaught, self._caught)

    def lost(self, error: BaseException | None) -> None:
        """This exception has left the tests' handler again, with those that caused it."""
        self._move(error, self._caught, self._uncaught)

    @staticmethod
    def _move(error: BaseException | None, source: list[_Raised], target: list[_Raised]) -> None:
        while error is not None:
            moved = [pair for pair in source if pair[0] is error]
            source[:] = [pair for pair in source if pair[0] is not error]
            target[:] = [*target, *moved][-_MAX_CAUGHT:]
            error = error.__cause__ or error.__context__

    def raise_uncaught(self) -> None:
        """Raise the first exception that something other than the tests handled."""
        for error, _ in self._uncaught:
            raise error

    def detail(self, error: BaseException, tests: str) -> str:
        """Class and message of an exception, or its source line if it has no message."""
        try:
            lines = [line for other, line in self._uncaught + self._caught if other is error]
            message = str(error) or "".join(lines) or exceptions.source_line(error, tests, FILE)
        except Exception:
            message = ""
        name = type(error).__name__
        return f"{name}: {message}" if message else name

    def _end(self, reason: str, detail: str) -> NoReturn:
        if self.verdict is None:
            self.verdict = (reason, detail)
        raise _EndedError


def _is_class(what: str, *content: Any) -> bool:
    """Whether a name is described as a class of the program, exceptions aside."""
    return what == "value" and isinstance(content[0], dict) and content[0].get("mine", ("", ""))[1] == "class"


def _loaded() -> set[str]:
    """The modules of the standard library that are loaded here."""
    return {name for name in sys.modules if name.partition(".")[0] in sys.stdlib_module_names}


def _catches_failures(value: Any) -> bool:
    """Whether ``except value`` would catch a failed assertion."""
    if isinstance(value, tuple | list):
        return any(map(_catches_failures, value))
    return isinstance(value, type) and issubclass(AssertionError, value)


def _is_expected_by_unittest(error: BaseException) -> bool:
    """Whether `unittest` called the program and expects this, as in ``assertRaises(ValueError, f, 1)``."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    if frame.f_globals.get("__name__") != "unittest.case":
        return False
    return isinstance(error, getattr(frame.f_locals.get("self"), "expected", ()))


def judge(tests: str, own: list[str], asks: int, answers: int) -> Result:
    """Run tests against the program at the other end of two pipes.

    Args:
        tests: Python source; names that are neither defined there nor built-ins come from the program.
        own: names of built-ins that come from the program.
        asks: descriptor for questions to the program.
        answers: descriptor of its answers.
    """
    random.seed(0)  # the same program gets the same verdict
    program = _RemoteProgram(asks, answers)
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
        verdict = ("failed", program.detail(error, tests))
    reason, detail = program.verdict or verdict
    return reason, detail[:_MAX_DETAIL]


def _run(tests: str, own: set[str], program: _RemoteProgram) -> None:
    program.await_loaded()
    tree = ast.parse(tests, FILE)
    free = _free_names(tests)
    requested = {name for name in free if not name.startswith("__") and (name in own or not hasattr(builtins, name))}
    nodes = list(ast.walk(tree))
    dotted = {node.value.id for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}
    names = program.names(requested, dotted - own) if requested else {}

    def caught() -> None:
        program.caught(sys.exc_info()[1])

    def lost() -> None:
        program.lost(sys.exc_info()[1])

    if any(isinstance(node, ast.ExceptHandler | ast.With) for node in nodes):
        tree = ast.fix_missing_locations(_WatchHandlers().visit(tree))
    module = sys.modules["tests"] = ModuleType("tests")  # the standard library looks up the module of some classes
    module.__dict__.update({"__builtins__": builtins, "next": program.next, _CAUGHT: caught, _LOST: lost, **names})
    exec(compile(tree, FILE, "exec", dont_inherit=True), module.__dict__)


def _free_names(tests: str) -> set[str]:
    """Names that the tests use and do not define."""

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


class _WatchHandlers(ast.NodeTransformer):
    """Make tests report the exceptions they handle: those that reach an ``except`` or the end of a ``with``.

    Other code swallows exceptions, too, as a loop does with `StopIteration`; a program must not pass its tests that
    way. An exception that leaves the ``except`` or the ``with`` again is not handled.
    """

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        self.generic_visit(node)
        node.body = [_call(_CAUGHT, node), _on_exception(node.body, _LOST, node)]
        return node

    def visit_With(self, node: ast.With) -> ast.AST:
        self.generic_visit(node)
        node.body = [_on_exception(node.body, _CAUGHT, node)]
        return _on_exception([node], _LOST, node)


def _on_exception(body: list[ast.stmt], name: str, place: ast.AST) -> ast.stmt:
    """Statements, with a call if an exception leaves them."""
    handler = ast.ExceptHandler(type=None, name=None, body=[_call(name, place), ast.Raise()])
    return ast.copy_location(ast.Try(body=body, handlers=[handler], orelse=[], finalbody=[]), place)


def _call(name: str, place: ast.AST) -> ast.stmt:
    return ast.copy_location(ast.Expr(ast.Call(ast.Name(name, ast.Load()), [], [])), place)
