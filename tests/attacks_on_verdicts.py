"""Attacks on the verdict: names, exceptions, objects and messages in place of answers."""

from __future__ import annotations

from tests.attacks import HONEST, Attack

_WRONG = "def f(x):\n    return 0\n"
_ASSERTION = "failed: AssertionError: assert f(2) == 3"
_GARBAGE = "crashed: it wrote to the pipe of its answers"


def _says(message: str, after: str = "") -> str:
    """A program that adds to its process's description of its names."""
    return (
        "import json\nreal = json.dumps\n"
        "def dumps(message, *a, **k):\n"
        "    if isinstance(message, list) and message[0] == 'names':\n"
        f"        message = {message}\n"
        f"    return real(message, *a, **k)\njson.dumps = dumps\n{after or _WRONG}"
    )


def _objects(body: str, tests: str, outcome: str, name: str) -> Attack:
    return Attack(name, f"class E{body}\ndef f(x):\n    return E()\n", outcome, tests=tests)


NAMES = [
    Attack(
        "answers with other names",
        _says("['names', {**message[1], **{n: ['library', 'os'] for n in ('abs', 'all', 'len', 'isinstance')}}]"),
        _GARBAGE,
    ),
    Attack("forged built-ins", _says("['names', {**message[1], '__builtins__': ['value', {'dict': []}]}]"), _GARBAGE),
    Attack(
        "the built-ins module for a name",
        _says("['names', {'f': ['module', 'builtins']}]"),
        "failed: NameError: name 'f'",
    ),
    Attack("any module for a name", _says("['names', {'f': ['library', 'this']}]"), "failed: NameError: name 'f'"),
    Attack("a function of the judge", _says("['names', {'f': ['library', 'inside.judge']}]"), "failed: NameError"),
    Attack("a built-in function as a value", _says("['names', {'f': ['value', {'builtin': 'eval'}]}]"), _GARBAGE),
    Attack(
        "a class in place of a module of the tests",
        "class math:\n    fabs = staticmethod(lambda x: 0)\n" + _WRONG,
        "failed: NameError: name 'math' is not defined",
        tests="assert math.fabs(f(2) - 3) < 1\n",
    ),
    Attack(
        "another module in place of one of the tests",
        "import operator as math\n" + _WRONG,
        "failed: NameError: name 'math' is not defined",
        tests="assert math.eq(f(2), 3)\n",
    ),
    Attack(
        "a changed module",
        "import math\nmath.fabs = lambda x: 0\n" + _WRONG,
        "failed: AssertionError: assert math.fabs(f(2) - 3) < 1",
        tests="assert math.fabs(f(2) - 3) < 1\n",
    ),
    Attack(
        "shadowing what the tests define",
        "def same(a, b): return True\ncandidate = lambda x: 3\n" + _WRONG,
        "failed: AssertionError: assert same(candidate(2), 3)",
        tests="def check(candidate):\n    assert same(candidate(2), 3)\ndef same(a, b): return a == b\ncheck(f)\n",
    ),
    Attack(
        "shadowing what the tests import",
        "def isclose(a, b): return True\n" + _WRONG,
        "failed: AssertionError: assert isclose(f(2), 3)",
        tests="from math import isclose\nassert isclose(f(2), 3)\n",
    ),
    Attack("shadowing the tests' exceptions", "class AssertionError(Exception): pass\n" + _WRONG, _ASSERTION),
    Attack(
        "attributes of a function",
        "class F:\n    __call__ = lambda s, x: 0\n    __getattr__ = lambda s, n: lambda *a: True\nf = F()\n",
        "failed: AttributeError: '_Function' object has no attribute 'equals'",
        tests="assert f.equals(3)\n",
    ),
]

_STOP = "def f(x):\n    raise StopIteration\n"
_STOPPED = "failed: StopIteration: raise StopIteration"
EXCEPTIONS = [
    Attack("StopIteration in map", _STOP, _STOPPED, tests="assert all(map(lambda x: f(x) == x + 1, [2, 5]))\n"),
    Attack(
        "StopIteration in zip", _STOP, _STOPPED, tests="for a, b in zip(map(f, [2, 5]), [3, 6]):\n    assert a == b\n"
    ),
    Attack("StopIteration in next with a default", _STOP, _STOPPED, tests="assert next(map(f, [2]), 3) == 3\n"),
    Attack(
        "StopIteration in iter with a sentinel",
        _STOP,
        _STOPPED,
        tests="for x in iter(lambda: f(2), 3):\n    assert False\n",
    ),
    Attack(
        "StopIteration in heapq.merge",
        _STOP,
        _STOPPED,
        tests="import heapq\nassert list(heapq.merge(map(f, [1]))) == []\n",
    ),
    Attack(
        "StopIteration in a generator",
        _STOP,
        "failed: RuntimeError: generator raised StopIteration",
        tests="assert all(f(x) == x + 1 for x in [2, 5])\n",
    ),
    Attack(
        "a subclass of StopIteration",
        "class E(StopIteration): pass\ndef f(x):\n    raise E\n",
        "failed: E: raise E",
        tests="assert all(map(lambda x: f(x) == x + 1, [2, 5]))\n",
    ),
    Attack(
        "IndexError in __getitem__",
        "def f(x):\n    raise IndexError\n",
        "failed: IndexError: raise IndexError",
        tests="class S:\n    def __getitem__(self, n): return f(n) == n + 1 or 1 / 0\nassert all(S())\n",
    ),
    Attack(
        "AttributeError in a property",
        "def f(x):\n    raise AttributeError\n",
        "failed: AttributeError: raise AttributeError",
        tests="class S:\n    n = property(lambda s: f(2))\n"
        "assert getattr(S(), 'n', 3) == 3 and not hasattr(S(), 'n')\n",
    ),
    Attack(
        "TypeError in __len__",
        "def f(x):\n    raise TypeError\n",
        "failed: TypeError: raise TypeError",
        tests="class S(list):\n    def __len__(self): return f(2)\nassert list(iter(S())) == []\n"
        "class T:\n    __iter__ = lambda s: iter([3])\n    __len__ = lambda s: f(2)\nassert list(T()) == [3]\n",
    ),
    Attack(
        "an exception lost in finally",
        "def f(x):\n    raise ValueError\n",
        "failed: ValueError: raise ValueError",
        tests="for x in (2, 5):\n    try:\n        assert f(x) == x + 1\n    finally:\n        continue\n",
    ),
    Attack(
        "an exception where another is expected",
        "def f(x):\n    raise KeyError\n",
        "failed: KeyError: raise KeyError",
        tests="try:\n    f(2)\n    assert False\nexcept ValueError:\n    pass\n",
    ),
    Attack(
        "StopIteration inside a with",
        _STOP,
        _STOPPED,
        tests="import threading\ndef g(x):\n    with threading.Lock():\n        return f(x) == x + 1\n"
        "assert all(map(g, [2, 5]))\n",
    ),
    Attack(
        "StopIteration that is re-raised",
        _STOP,
        _STOPPED,
        tests="def g(x):\n    try:\n        return f(x) == x + 1\n    except Exception:\n        raise\n"
        "assert all(map(g, [2, 5]))\n",
    ),
    Attack(
        "StopIteration that is converted",
        _STOP,
        _STOPPED,
        tests="def g(x):\n    try:\n        return f(x) == x + 1\n    except Exception as e:\n"
        "        raise StopIteration from e\nassert all(map(g, [2, 5]))\n",
    ),
    Attack(
        "AssertionError as the end of an iterator",
        "class I:\n    def __iter__(self): return self\n    def __next__(self): raise AssertionError\n"
        "def f(x):\n    return I()\n",
        "failed: AssertionError: def __next__(self): raise AssertionError",
        tests="assert list(f(2)) == []\n",
    ),
]

OBJECTS = [
    _objects(
        ":\n    __sub__ = __rsub__ = __abs__ = __lt__ = lambda *a: 0\n",
        "assert abs(f(2) - 3) < 1\n",
        "failed: TypeError: unsupported operand",
        "an object with arithmetic",
    ),
    _objects(
        ":\n    __contains__ = lambda *a: True\n    __iter__ = lambda s: iter([])\n",
        "assert 3 in f(2)\n",
        "failed: TypeError: argument of type",
        "an object that contains everything",
    ),
    _objects(
        ":\n    startswith = lambda *a: True\n",
        "assert f(2).startswith('th')\n",
        "failed: AttributeError: ",
        "an object with the methods of a string",
    ),
    _objects(
        "(str):\n    startswith = __contains__ = __eq__ = lambda *a: True\n    __hash__ = str.__hash__\n",
        "assert f(2).startswith('th') or 'th' in f(2) or f(2) == 'three'\n",
        "failed: AssertionError: ",
        "a string with methods of its own",
    ),
    _objects(
        "(dict):\n    __getitem__ = get = __missing__ = lambda *a: 3\n    items = lambda s: {}.items()\n",
        "assert f(2).get('a') == 3 or f(2)['a'] == 3\n",
        "failed: KeyError: 'a'",
        "a dict that contains everything",
    ),
    _objects(
        "(list):\n    __len__ = index = __contains__ = lambda *a: 3\n",
        "assert len(f(2)) == 3 or 3 in f(2)\n",
        "failed: AssertionError: ",
        "a list that contains everything",
    ),
    _objects(
        "(int):\n    __index__ = __int__ = __sub__ = __bool__ = lambda *a: 3\n",
        "assert f(2) - 3 == 0 and f(5) - 6 == 0\n",
        "failed: AssertionError: ",
        "a number with arithmetic of its own",
    ),
    Attack(
        "a named tuple with methods",
        "from collections import namedtuple\nP = namedtuple('P', 'startswith')\n"
        "def f(x):\n    return P(lambda *a: True)\n",
        "failed: AttributeError: 'tuple' object has no attribute 'startswith'",
        tests="assert f(2).startswith('th')\n",
    ),
    Attack(
        "a named tuple of classes",
        "from collections import namedtuple\nP = namedtuple('P', 'startswith')\ndef f(x):\n    return P(bool)\n",
        "failed: AttributeError: 'tuple' object has no attribute 'startswith'",
        tests="assert f(2).startswith('th')\n",
    ),
    Attack(
        "a class in place of a function",
        "class f:\n    def __init__(self, x): pass\n    __eq__ = isupper = lambda *a: True\n",
        "failed: AttributeError: ",
        tests="assert f(2).isupper()\n",
    ),
    Attack("a function that returns itself", "def f(*x):\n    return f\n", _ASSERTION),
    Attack("a function as an answer", "def f(x):\n    return lambda *a: True\n", _ASSERTION),
    Attack(
        "an answer that changes",
        "def f(x):\n    yield from (3, 3, 3)\n",
        "failed: AssertionError: assert f(2) == 3",
    ),
    Attack(
        "an endless answer",
        "import itertools\ndef f(x):\n    return itertools.repeat(0)\n",
        "timeout",
        1.0,
        tests="assert 3 in f(2)\n",
    ),
]

_WRITE = (
    "import json, os, struct\n"
    "def say(*messages):\n"
    "    for m in messages:\n"
    "        text = m if isinstance(m, bytes) else json.dumps(m).encode()\n"
    "        os.write(5, len(text).to_bytes(8, 'big') + text)\n"
)


def _messages(name: str, messages: str, outcome: str = _GARBAGE, seconds: float = 5.0, tests: str = "") -> Attack:
    names = "['names', {'f': ['value', {'mine': [0, 'function', 'f']}]}]"
    program = f"{_WRITE}say(['loaded'], {names}, {messages})\nimport time\ntime.sleep(9)\n"
    return Attack(name, program, outcome, seconds, **({"tests": tests} if tests else {}))


MESSAGES = [
    _messages("a stop as an answer", "['stop']"),
    _messages("an answer of unknown kind", "['returned']"),
    _messages("a list in place of an answer", "[[]]"),
    _messages("deep data", "b'[' * 100000 + b']' * 100000"),
    _messages("malformed numbers", "['returned', {'int': '0x'}, None]"),
    _messages("two kinds of data in one message", "['returned', {'int': '0x3', 'str': 1}, None]"),
    _messages("a dangling reference", "['returned', {'yours': 5}, None]"),
    _messages("a malformed reference", "['returned', {'mine': [[], 'function', 'f']}, None]"),
    _messages("a reference of unknown kind", "['returned', {'mine': [7, 'verdict', 'f']}, None]"),
    _messages("a function named as a class", "['returned', {'builtin': 'exec'}, None]"),
    _messages("a message of 2**60 bytes", "['returned', 0, None]) or os.write(5, bytes([8] * 8)", _ASSERTION),
    _messages("questions instead of answers", "*[['ask', 'call', 0, [[], {}]]] * 9, ['returned', 0, None]", _ASSERTION),
    _messages(
        "a question for a code object",
        "['ask', 'get', 0, [['__globals__'], {}]], ['returned', 0, None]",
        "failed: AssertionError: assert f(len) == 3",
        tests="assert f(len) == 3\n",
    ),
    _messages("an exception with an invalid name", "['raised', 'E\\0', ['ValueError'], '', [], '']"),
    _messages("an exception of the judge", "['raised', '_EndedError', ['_EndedError'], '', [], '']", "failed: _"),
    _messages("an exception with malformed texts", "['raised', 5, 5, 5, 5, 5]"),
    _messages("arguments that were never passed", "['returned', 3, [[1, 2, 3], {'dict': []}]]"),
    Attack(
        "endless questions",
        f"{_WRITE}while True: say(['ask', 'call', 0, [[], {{}}]])\n",
        "timeout",
        1.0,
    ),
    Attack(
        "an answer sent in advance",
        f"{_WRITE}say(['loaded'], ['names', {{'f': ['value', 3]}}])\n{HONEST}",
        "failed: TypeError: 'int'",
    ),
]

ATTACKS = [*NAMES, *EXCEPTIONS, *OBJECTS, *MESSAGES]
