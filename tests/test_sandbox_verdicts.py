"""Verdicts of generated programs."""

from __future__ import annotations

import sys

import pytest

from evaluation.sandbox import Limits, Sandbox
from evaluation.tasks import humaneval
from tests.layers import MISSING
from tests.odd_programs import PROGRAMS, Odd

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="programs are not run on Windows")


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("", "passed"),
        ("import collections, dataclasses, functools, heapq, itertools, json, math, re, typing", "passed"),
        ("import hashlib, sqlite3, zoneinfo, decimal, unittest, tempfile\ntempfile.TemporaryFile()", "passed"),
        ("assert 1 == 2, 'one is\\nnot two'", "failed: AssertionError: one is not two"),
        ("assert 1 == 2", "failed: AssertionError: assert 1 == 2"),
        ("def f(:\n", "failed: SyntaxError: invalid syntax (<program>, line 1)"),
        ("x = '\0'", "failed: "),
        ("x = '\ud800'", "failed: UnicodeEncodeError"),
        ("import torch", "failed: ModuleNotFoundError: No module named 'torch'"),
        ("input()", "failed: EOFError: EOF when reading a line"),
        ("def f():\n    f()\nf()", "failed: RecursionError: "),
        ("class E(Exception):\n    def __str__(self):\n        raise self\nraise E", "failed: E"),
        ("raise Exception('x' * 10**6)", "failed: Exception: xxx"),
        ("raise KeyboardInterrupt", "failed: KeyboardInterrupt"),
        ("import ctypes\nctypes.string_at(0)", "crashed: Segmentation fault"),
        ("import threading\nthreading.Thread(target=print).start()", "failed: RuntimeError: can't start new thread"),
        pytest.param(
            "x = [0] * 10**10",
            "memory",
            marks=pytest.mark.skipif("memory" in MISSING, reason="the layer 'memory' is missing: address space"),
        ),
    ],
)
def test_an_outcome_says_why(sandbox: Sandbox, program: str, outcome: str) -> None:
    if "Thread" in program and "seccomp" in MISSING:
        pytest.skip("the layer 'seccomp' is missing: threads can be started")
    found = sandbox.run(program)
    assert str(found).startswith(outcome)
    assert found.passed == (outcome == "passed")
    assert "\n" not in found.detail
    assert len(found.detail) <= 300


@pytest.mark.parametrize(
    ("program", "tests", "outcome"),
    [
        ("def f(x):\n    return x + [4]", "assert f([1, 2]) == [1, 2, 4]", "passed"),
        ("def f(x, *, by):\n    x.sort(key=lambda y: y * by)", "a = [1, 2]\nf(a, by=-1)\nassert a == [2, 1]", "passed"),
        ("import math\ndef f(x):\n    return x", "assert math.fabs(f(-2)) == 2", "passed"),
        ("LIMIT = 3\ndef f():\n    return LIMIT", "assert f() == LIMIT", "passed"),
        ("def f(x):\n    yield from range(x)", "assert list(f(3)) == [0, 1, 2]\nassert f(1) != [0]", "passed"),
        (
            "def f(x):\n    raise ValueError('no')",
            "try:\n    f(1)\nexcept ValueError as e:\n    assert str(e) == 'no'",
            "",
        ),
        ("class E(KeyError): pass\ndef f(x):\n    raise E", "try:\n    f(1)\nexcept KeyError: pass", "passed"),
        ("class E(KeyError): pass\ndef f(x):\n    raise E", "f(1)", "failed: E: "),
        ("def f(x):\n    return y", "f(1)", "failed: NameError: name 'y' is not defined"),
        ("def g(): pass", "assert f(1) == 1", "failed: NameError: name 'f' is not defined"),
        ("class A: n = 1\ndef f(x):\n    return A()", "f(1).n", "failed: AttributeError: "),
        ("class A: pass\ndef f(x):\n    return A()", "assert f(1) == f(1)", "failed: AssertionError: "),
        ("def f(x): return x", "f(object())", "failed: TypeError: object is not plain data"),
        ("def f(x):\n    a = []\n    a.append(a)\n    return a", "f(1)", "failed: RecursionError: "),
        ("def f(x):\n    return x", "def check(candidate):\n    assert candidate(1) == 2\ncheck(f)", "failed: Ass"),
        ("def f(x):\n    return 'x' * 2**25", "f(1)", "failed: ValueError: the result is too long"),
        ("def f(x): return x", "assert f(:", "failed: SyntaxError: invalid syntax (<tests>, line 1)"),
        ("import os\ndef f(x): os._exit(3)", "f(1)", "exited: status 3"),
        ("x = 1", "while True: pass", "timeout"),
        ("class A: n = 1\ndef f(x): return x.n\na = A()", "assert f(a) == f(x=a) == 1", "passed"),
        ("class A: n = 1\ndef f(x): return x.n\na = A()", "a.n", "failed: AttributeError: "),
        ("def sum(x): return 5", "assert sum([1]) == 5", "failed: AssertionError: "),
    ],
)
def test_tests_judge_what_functions_answer(sandbox: Sandbox, program: str, tests: str, outcome: str) -> None:
    assert str(sandbox.run(program, tests, Limits(seconds=1.0 if outcome == "timeout" else 10.0))).startswith(
        outcome or "passed"
    )


def test_a_function_may_have_the_name_of_a_builtin_if_it_is_asked_for(sandbox: Sandbox) -> None:
    assert str(sandbox.run("def sum(x): return 5", "assert sum([1]) == 5", names=["sum"])) == "passed"


@pytest.mark.parametrize(
    "value",
    [
        "None", "True", "-7", "2**80", "-(10**4000)", "1.5", "float('inf')", "'a\\ud800\\0'", "b'\\xff'", "3j",
        "(1, (2,))",
        "{1: 'a', (2, 3): [4]}", "{1, 2}", "frozenset('ab')", "range(1, 9, 2)", "bytearray(b'x')",
        "__import__('fractions').Fraction(1, 3)", "__import__('decimal').Decimal('1.10')",
        "__import__('collections').deque([1])", "__import__('collections').Counter('aab')",
        "__import__('collections').OrderedDict(a=1)",
    ],
)  # fmt: skip
def test_plain_data_passes_unchanged(sandbox: Sandbox, value: str) -> None:
    tests = f"assert f({value}) == {value}\nassert repr({value})[:3] == repr(f({value}))[:3] or isinstance(f(1), int)"
    assert str(sandbox.run("def f(x):\n    return x", tests)) == "passed"


@pytest.mark.sampled(6)
@pytest.mark.parametrize("odd", PROGRAMS, ids=lambda odd: odd.name)
def test_a_right_program_passes_however_it_is_written(sandbox: Sandbox, odd: Odd) -> None:
    assert str(sandbox.run(odd.program, odd.tests)) == "passed"


def test_there_are_many_odd_programs() -> None:
    assert len({odd.name for odd in PROGRAMS}) == len(PROGRAMS) >= 100


CHECK = "def check(candidate):\n    for s in ('ab', 'xyz'):\n        assert candidate(coded(s)) == s\n"
EXCEPTIONS = ["StopIteration", "StopAsyncIteration", "GeneratorExit", "IndexError", "KeyError", "AttributeError",
              "TypeError", "AssertionError", "LookupError", "RuntimeError", "EOFError", "RecursionError"]  # fmt: skip
TAKERS = {
    "all": "assert all(map(f, [1, 2]))",
    "any": "assert not any(map(f, [1, 2]))",
    "zip": "for a, b in zip(map(f, [1]), [2]):\n    assert a == b",
    "list": "assert list(map(f, [1])) == []",
    "a list made": "assert [f(x) for x in [1]] == []",
    "a generator": "assert list(f(x) for x in [1]) == []",
    "yield from": "def g():\n    yield from map(f, [1])\nassert list(g()) == []",
    "filter": "assert list(filter(f, [1])) == []",
    "sum": "assert sum(map(f, [1])) == 0",
    "in": "assert 3 not in map(f, [1])",
    "a star": "assert max(0, 0, *map(f, [1])) == 0",
    "unpacking": "*a, = map(f, [1])\nassert a == []",
    "dict": "assert dict(map(f, [1])) == {}",
    "join": "assert ''.join(map(f, [1])) == ''",
    "next": "assert next(map(f, [1]), 3) == 3",
    "max": "assert max(map(f, [1]), default=3) == 3",
    "a sentinel": "assert list(iter(lambda: f(1), 3)) == []",
    "itertools": "import itertools as i\nassert list(i.chain(i.starmap(f, [[1]]), i.takewhile(f, [1]))) == []",
    "merge": "import heapq\nassert list(heapq.merge(map(f, [1]), [])) == []",
    "a sequence": "class S:\n    def __getitem__(self, n): return f(n)\nassert list(S()) == []",
    "an iterator": "class S:\n    def __iter__(s): return s\n    def __next__(s): return f(1)\nassert list(S()) == []",
    "hasattr": "class S:\n    n = property(f)\nassert not hasattr(S, 'm') and not hasattr(S(), 'n')",
    "getattr": "class S:\n    def __getattr__(self, n): return f(n)\nassert getattr(S(), 'n', 3) == 3",
    "a length": "class S:\n    __iter__ = lambda s: iter([])\n    __len__ = lambda s: f(1)\nassert list(S()) == []",
    "return": "def g():\n    try:\n        return f(1)\n    finally:\n        return 3\nassert g() == 3",
    "continue": "for x in [1]:\n    try:\n        assert f(x) == 3\n    finally:\n        continue",
    "another handler": "try:\n    f(1)\nexcept (ZeroDivisionError, OSError):\n    pass",
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("taker", TAKERS, ids=str)
def test_no_exception_of_a_program_ends_its_tests(sandbox: Sandbox, taker: str) -> None:
    own = "class E(StopIteration): pass\ndef f(*x):\n    raise E"
    for program in (own, *(f"def f(*x):\n    raise {name}" for name in EXCEPTIONS)):
        outcome = sandbox.run(program, TAKERS[taker])
        assert outcome.reason == "failed", (program, outcome)


@pytest.mark.parametrize(
    "text",
    ["\ud800", "\x1b[2J\x1b]0;title\x07", "a\u202eb\u2066c", "\0\b\x7f\x9b", "\u200b\ufeff\u2028\x85", "\udcff" * 500],
)
@pytest.mark.parametrize(
    "program",
    [
        "raise ValueError(TEXT)",
        "class E(Exception):\n    __str__ = lambda e: TEXT\nraise E",
        "E = type('E', (Exception,), {})\nE.__name__ = TEXT.replace('\\0', '')\nraise E",
        "import sys\ndef f(x):\n    raise KeyError(TEXT)",
        "def f(x):\n    return TEXT",
        "raise SystemExit(TEXT)",
        "assert not 'TEXT'",
    ],
)
def test_verdicts_are_printable(sandbox: Sandbox, program: str, text: str) -> None:
    outcome = sandbox.run(program.replace("'TEXT'", repr(text)).replace("TEXT", ascii(text)), "y = f(1)\nassert 0, y")
    assert not outcome.passed
    assert str(outcome).isprintable(), outcome
    assert str(outcome).encode()
    assert len(outcome.detail) <= 300


def test_a_message_of_any_length_is_no_fault_of_the_machine(sandbox: Sandbox) -> None:
    assert sandbox.run("def f(x):\n    return 'x' * 10**7", "assert 0, f(1) * 3").reason == "failed"
    assert sandbox.run("raise Exception(['x' * 10**7] * 3)").reason == "failed"


def test_helpers_of_a_prompt_are_those_of_the_tests(sandbox: Sandbox) -> None:
    coded = "def coded(s):\n    return s[::-1]\n"
    doc = {"prompt": f"{coded}\ndef decoded(s):\n", "entry_point": "decoded", "test": CHECK, "task_id": "0"}
    program = f"{coded}def decoded(s):\n    return s[::-1]\n"
    assert humaneval.execute(sandbox, doc, [program])["outcome"] == "passed"
    forged = "def coded(s):\n    return s\ndef decoded(s):\n    return s\n"
    assert humaneval.execute(sandbox, doc, [forged])["outcome"].startswith("failed: AssertionError")
