"""Attacks through iterators, exceptions and objects, where tests use more than plain data."""

from __future__ import annotations

from tests.attacks import Attack

_WRONG = "def f(x):\n    return 0\n"
_ENDS = "assert all(map(lambda x: next(f(x)) == x + 1, [2, 5]))\n"
_REFUSES = "try:\n    f(-1)\n    assert False\nexcept Bad:\n    pass\n"
_UNKNOWN = "failed: NameError: name 'Bad' is not defined"
_ANSWERS = (
    "class E:\n    __eq__ = __bool__ = __contains__ = startswith = lambda *a: True\n    __hash__ = lambda s: hash(3)\n"
)


def _says(name: str, value: str) -> str:
    """A program that sends another value for a name."""
    return (
        "import json\nreal = json.dumps\n"
        "def dumps(message, *a, **k):\n"
        "    if message[0] == 'names':\n"
        f"        message[1]['{name}'] = ['value', {value}]\n"
        f"    return real(message, *a, **k)\njson.dumps = dumps\nBad = None\n{_WRONG}"
    )


def _returns(value: str) -> str:
    """A program whose functions return forged values."""
    return (
        "import json\nreal = json.dumps\n"
        "def dumps(message, *a, **k):\n"
        "    if message[0] == 'returned':\n"
        f"        message = ['returned', {value}, None]\n"
        f"    return real(message, *a, **k)\njson.dumps = dumps\n{_WRONG}"
    )


_STOPPED = "failed: StopIteration"
ENDS = [
    Attack("an iterator that ends at once", "def f(x):\n    return iter(())\n", _STOPPED, tests=_ENDS),
    Attack("a generator that ends at once", "def f(x):\n    if 0: yield\n", _STOPPED, tests=_ENDS),
    Attack(
        "an empty list for a first item",
        "def f(x):\n    return []\n",
        _STOPPED,
        tests="assert all(map(lambda x: next(iter(f(x))) == x + 1, [2, 5]))\n",
    ),
    Attack(
        "an end where unittest expects an error",
        "def f(x):\n    raise StopIteration\n",
        "failed: StopIteration: raise StopIteration",
        tests="import unittest\ncase = unittest.TestCase()\n"
        "assert all(map(lambda x: case.assertRaises(ValueError, f, x), [2, 5]))\n",
    ),
    Attack(
        "a test that is skipped",
        "import unittest\ndef f(x):\n    raise unittest.SkipTest('no')\n",
        "failed: SkipTest: no",
        tests="import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f(2), 3)\n"
        "result = unittest.TestResult()\nT('test').run(result)\nassert result.wasSuccessful()\n",
    ),
]

CLASSES = [
    Attack("Exception as its own exception", "Bad = Exception\n" + _WRONG, _UNKNOWN, tests=_REFUSES),
    Attack(
        "AssertionError among its exceptions",
        "Bad = (ValueError, AssertionError)\n" + _WRONG,
        _UNKNOWN,
        tests=_REFUSES,
    ),
    Attack(
        "a subclass of AssertionError",
        "class Bad(AssertionError): pass\n" + _WRONG,
        "failed: AssertionError: assert False",
        tests=_REFUSES,
    ),
    Attack(
        "an exception class that matches every exception",
        "class M(type):\n    __subclasscheck__ = __instancecheck__ = lambda *a: True\n"
        "class Bad(Exception, metaclass=M): pass\n" + _WRONG,
        "failed: AssertionError: assert False",
        tests=_REFUSES,
    ),
    Attack(
        "an exception derived from object",
        _says("Bad", "{'exception': [99, 'Bad', [{'builtin': 'object'}], 'x']}"),
        "crashed: it wrote to the pipe of its answers",
        tests=_REFUSES,
    ),
    Attack(
        "AssertionError as an exception of the library",
        _says("Bad", "{'exception': [99, 'AssertionError', [], 'builtins']}"),
        _UNKNOWN,
        tests=_REFUSES,
    ),
    Attack(
        "an exception with the name of another",
        "class E(Exception): pass\nE.__name__ = 'ValueError'\ndef f(x):\n    raise E\n",
        "failed: ValueError: raise E",
        tests="try:\n    f(2)\nexcept ValueError:\n    pass\n",
    ),
    Attack(
        "objects beside a class of the tests",
        _ANSWERS + "def f(x):\n    return E()\n",
        "failed: AssertionError: assert E() != 3",
        tests="assert E() != 3 and (f(2) == 3 or 3 == f(2) or f(2) in [3] or [f(2)] == [3] or f(2) in {3})\n",
    ),
    Attack(
        "objects beside a class of the library",
        "from collections import Counter\n" + _ANSWERS + "def f(x):\n    return E()\n",
        "failed: AttributeError: 'Borrowed' object has no attribute 'startswith'",
        tests="assert Counter('a') == {'a': 1}\nassert f(2).startswith('th')\n",
    ),
    Attack(
        "a context manager that suppresses failures",
        "class E:\n    __enter__ = lambda s: s\n    __exit__ = lambda *a: True\n" + _WRONG,
        "failed: AssertionError: assert f(2) == 3",
        tests="with E():\n    assert f(2) == 3\n",
    ),
    Attack(
        "a class of which everything is an instance",
        "class M(type):\n    __instancecheck__ = lambda *a: True\nclass E(metaclass=M): pass\n" + _WRONG,
        "failed: AssertionError: assert isinstance(f(2), E)",
        tests="assert isinstance(f(2), E)\n",
    ),
    Attack(
        "reading the globals of a test function",
        "import json, os\ndef f(g):\n    text = json.dumps(['ask', 'get', 0, [['__globals__'], {}]]).encode()\n"
        "    os.write(5, len(text).to_bytes(8, 'big') + text)\n    return 0\n",
        "failed: AssertionError: assert f(lambda: 3) == 3",
        tests="assert f(lambda: 3) == 3\n",
    ),
    Attack(
        "shadowing a module that the tests name",
        "import sys, types\nmodule = types.ModuleType('calendar')\nmodule.isleap = lambda year: True\n"
        "sys.modules['calendar'] = module\nimport calendar\n" + _WRONG,
        "failed: AssertionError: assert calendar.isleap(f(2) + 1)",
        tests="assert calendar.isleap(f(2) + 1)\n",
    ),
]

DATA = [
    Attack("a repetition of data never sent", _returns("{'again': 0}"), "crashed: it wrote to the pipe of its answers"),
    Attack("data in itself", "def f(x):\n    a = {}\n    a['a'] = a\n    return a\n", "failed: RecursionError: "),
    Attack(
        "exponentially growing data",
        "def f(x):\n    a = [0]\n    for _ in range(60): a = [a, a]\n    return a\n",
        "timeout",
        1.0,
        tests="assert f(2) == f(2)\n",
    ),
    Attack(
        "two lone surrogates for one character",
        "def f(x):\n    return '\\ud83d\\ude00'\n",
        "failed: AssertionError: ",
        tests="assert f(2) == '\\U0001f600'\n",
    ),
    Attack(
        "a hidden built-in class",
        _returns("{'builtin': '__loader__'}"),
        "crashed: it wrote to the pipe of its answers",
    ),
]

ATTACKS = [*ENDS, *CLASSES, *DATA]
