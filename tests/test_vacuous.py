"""Rows that would be scored for nothing are refused, with file and line; sound ones of any style are not."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from cache_zoo import UsageError
from evaluation.config.settings import DatasetSettings
from evaluation.tasks.jsonl import check_row, read_rows
from evaluation.tasks.loading import load_task
from evaluation.tasks.scorers import SCORERS
from models.nano.data import ITEMS
from tests.good_rows import GOOD
from tests.test_scoring import published

BAD = [
    ("gsm8k", {"question": " \n"}, "'question' must be text that is not blank"),
    ("gsm8k", {"answer": ""}, "'answer' must be text that is not blank"),
    ("gsm8k", {"answer": "It is 2."}, "'answer' must end with #### and a number"),
    ("gsm8k", {"answer": "It is 2.\n####"}, "'answer' must end with #### and a number"),
    ("gsm8k", {"answer": "It is 2.\n#### two"}, "'answer' must end with #### and a number"),
    ("gsm8k", {"answer": "#### 2\n#### [invalid]"}, "'answer' must end with #### and a number"),
    ("gsm8k", {"answer": "#### ,"}, "'answer' must end with #### and a number"),
    ("gsm8k", {"answer": "#### 2 \ud800"}, "'answer' must be text that is not blank"),
    ("gsm8k", {"answer": "#### 2\n"}, "'answer' must end with #### and a number, and nothing behind it"),
    ("gsm8k", {"question": "\u200b\ufeff\0"}, "'question' must be text that is not blank"),
    ("nano-gsm", {"answer": "1 + 1 = 2"}, "'answer' must end with #### and a number"),
    ("nano-gsm", {"answer": "#### 2 "}, "'answer' must end with #### and a number"),
    ("math-500", {"answer": "\\text{}"}, "'answer' can't be read: it does not even equal itself"),
    ("math-500", {"answer": "1+" * 600 + "1"}, "'answer' can't be read: it does not even equal itself"),
    ("humaneval", {"prompt": "import (\n\ndef f(x):\n"}, "'prompt' is not the beginning of a Python program"),
    ("nano-code", {"prompt": "def f(x)):\n"}, "'prompt' is not the beginning of a Python program"),
    ("nano-gsm", {"question": ""}, "'question' must be text that is not blank"),
    ("math-500", {"answer": "  "}, "'answer' must be text that is not blank"),
    ("math-500", {"answer": "$ $"}, "'answer' is blank"),
    ("math-500_instruct", {"problem": "\t"}, "'problem' must be text that is not blank"),
    ("humaneval", {"prompt": ""}, "'prompt' must be text that is not blank"),
    ("humaneval", {"entry_point": "g"}, "'prompt' does not define g, which is the 'entry_point'"),
    ("humaneval", {"entry_point": "def"}, "'entry_point' must be the name of a function"),
    (
        "mbpp",
        {"test_list": []},
        "'test_list' must be a list of texts that are Python source of at most 200,000 characters, not []",
    ),
    ("mbpp", {"text": ""}, "'text' must be text that is not blank"),
    ("nano-code", {"prompt": "x = 1\n"}, "'prompt' does not begin a function"),
]

NOTHING = [  # bodies of check(candidate), or tests of the function candidate
    "pass",
    "...",
    "'assert candidate(1) == 1'",
    "# assert candidate(1) == 1\npass",
    "assert True",
    "assert 1",
    "assert 1 == 1",
    "assert 'candidate(1) == 1'",
    "assert (candidate(1) == 1, 'it is not')",
    "assert [candidate(1) == 1]",
    "assert candidate(1) == 1 or True",
    "assert not False and True",
    "assert candidate",
    "assert callable(candidate)",
    "assert candidate is not None",
    "assert lambda: candidate(1) == 1",
    "assert candidate(1) == candidate(1)",
    "candidate(1)",
    "candidate(1) == 1",
    "print(candidate(1))",
    "x = candidate(1)",
    "x = candidate(1)\ny = 1\nassert y == 1",
    "import math\nassert math.floor(1.5) == 1",
    "assert len([1]) == 1 and abs(-1) == 1",
    "if False:\n    assert candidate(1) == 1",
    "while 0:\n    assert candidate(1) == 1",
    "for x in []:\n    assert candidate(x) == 1",
    "for x in range(0):\n    assert candidate(x) == 1",
    "try:\n    assert candidate(1) == 1\nexcept:\n    pass",
    "try:\n    assert candidate(1) == 1\nexcept AssertionError:\n    print('no')",
    "def never():\n    assert candidate(1) == 1",
    "def helper(x):\n    return x\nhelper(candidate(1))",
    "assert candidate(1) is not None or candidate(1) is None",
    "assert candidate(1) == 1 or candidate(1) != 1",
    "assert isinstance(candidate(1), object)",
    "assert repr(candidate(1))",
    "assert [candidate(x) for x in [1]]",
    "assert (candidate(x) for x in [1])",
    "assert all(candidate(x) == 1 for x in [])",
    "assert all([candidate(x) for x in range(0)])",
    "assert True if candidate(1) else True",
    "assert 1 if True else candidate(1)",
    "result = candidate(1)\nresult = 1\nassert result == 1",
    "class T:\n    def test(self):\n        assert candidate(1) == 1",
    "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(candidate(1), 1)",
    "async def t():\n    assert candidate(1) == 1\nt()",
    "def t():\n    yield candidate(1)\n    assert candidate(1) == 1\nt()",
    "for _ in list():\n    assert candidate(1) == 1",
    "for _ in range(1, 0):\n    assert candidate(1) == 1",
    "for _ in zip([], [1]):\n    assert candidate(1) == 1",
    "cases = []\nfor x in cases:\n    assert candidate(x) == 1",
    "cases = {}\nfor k, v in cases.items():\n    assert candidate(k) == v",
    "import contextlib\nwith contextlib.suppress(AssertionError):\n    assert candidate(1) == 1",
    "exit()\nassert candidate(1) == 1",
    "import sys\nsys.exit(0)\nassert candidate(1) == 1",
    "candidate = lambda x: 1\nassert candidate(1) == 1",
    "candidate = len\nassert candidate('a') == 1",
    "for candidate in [len]:\n    assert candidate('a') == 1",
    "def candidate(x):\n    return 1\nassert candidate(1) == 1",
    "from m import candidate\nassert candidate(1) == 1",
    "try:\n    candidate(1)\nexcept Exception:\n    assert False",
]
SOMETHING = [
    "assert candidate(1) == 1",
    "assert not candidate(0)",
    "assert True\nassert candidate(1)",
    "x = candidate(1)\nassert x == 1",
    "for x, y in [(1, 1)]:\n    assert candidate(x) == y",
    "for y in candidate(1):\n    assert y",
    "assert sum(map(candidate, [1, 2])) == 3",
    "g = candidate\nassert g(1) == 1",
    "x = [1]\ncandidate(x)\nassert candidate(x) == x",
    "import math\nassert math.isclose(candidate(1.0), 1.0)",
    "if candidate(1) != 1:\n    raise AssertionError('no')",
    "try:\n    candidate(-1)\n    assert candidate(1) == 1\nexcept ValueError:\n    pass",
    "def helper(f):\n    assert f(1) == 1\nhelper(candidate)",
    "def same(x, y):\n    assert x == y\nsame(candidate(1), 1)",
    "while True:\n    assert candidate(1) == 1\n    break",
    "from math import isclose\nwith open('/dev/null'):\n    assert isclose(candidate(1), 1)",
    "x = [3]\ncandidate(x)\nassert x == [1]",
    "import copy\nx = [1]\ny = copy.deepcopy(x)\ncandidate(x)\nassert x == y",
    "given = {}\ncandidate(given)\nassert given['a'] == 1",
    "try:\n    candidate(None)\n    assert False\nexcept TypeError:\n    pass",
    "try:\n    candidate(None)\nexcept TypeError:\n    pass\nelse:\n    raise AssertionError",
    "try:\n    r = candidate(1)\nexcept Exception:\n    r = None\nassert r == 1",
    "raised = False\ntry:\n    candidate(None)\nexcept ValueError:\n    raised = True\nassert raised",
    "ok = True\nfor x in [1]:\n    if candidate(x) != x:\n        ok = False\nassert ok",
    "out = []\nfor x in [1]:\n    out.append(candidate(x))\nassert out == [1]",
    "d = {}\nd['x'] = candidate(1)\nassert d['x'] == 1",
    "def t(*fs):\n    assert fs[0](1) == 1\nt(candidate)",
    "def run(x):\n    return candidate(x)\nassert run(1) == 1",
    "fs = [candidate]\nassert fs[0](1) == 1",
    "match candidate(1):\n    case 1:\n        pass\n    case _:\n        assert False",
    "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(candidate(1), 1)\n"
    "unittest.main()",
    "class T:\n    def again(self):\n        T()\n    def t(self):\n        assert candidate(1) == 1\nT().t()",
    "cases = []\ncases.append((1, 1))\nfor x, y in cases:\n    assert candidate(x) == y",
    "import contextlib\nwith contextlib.suppress(ValueError):\n    assert candidate(1) == 1",
    "x = candidate(1)\nif x is None:\n    x = 0\nassert x == 1",
]


def refused(name: str, row: dict[str, Any], tmp_path: Path) -> str:
    file = tmp_path / "test.jsonl"
    file.write_text(f"{json.dumps(GOOD[name])}\n{json.dumps(row)}\n")
    with pytest.raises(UsageError) as caught:
        load_task(DatasetSettings(name, str(file), None, 0, None), seed=1)
    return str(caught.value).removeprefix(f"{file}, line 2: ")


@pytest.mark.parametrize(("name", "changes", "message"), BAD)
def test_what_cannot_be_asked_or_scored_is_refused(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert refused(name, {**GOOD[name], **changes}, tmp_path).startswith(message)


def with_tests(name: str, tests: str) -> dict[str, Any]:
    if name == "mbpp":
        return {**GOOD[name], "test_list": [tests.replace("candidate", "f")]}
    if name == "nano-code":
        return {**GOOD[name], "tests": tests.replace("candidate", "f") + "\n"}
    body = "".join(f"    {line}\n" for line in tests.split("\n"))
    return {**GOOD[name], "test": f"METADATA = {{}}\n\ndef check(candidate):\n{body}"}


@pytest.mark.parametrize("name", ["humaneval", "mbpp", "nano-code"])
@pytest.mark.parametrize("tests", NOTHING)
def test_tests_that_any_program_would_pass_are_refused(name: str, tests: str, tmp_path: Path) -> None:
    if name == "mbpp" and "len" in tests:
        return  # a row of MBPP does not name its function, and one asks for a function named as a built-in one
    row = with_tests(name, tests)
    with pytest.raises(UsageError, match=r"any program would pass$"):
        check_row("test.jsonl, line 1", row, SCORERS[name].columns, SCORERS[name].problem)


@pytest.mark.parametrize("name", ["humaneval", "mbpp", "nano-code"])
@pytest.mark.parametrize("tests", SOMETHING)
def test_tests_of_any_style_are_taken(name: str, tests: str) -> None:
    row = with_tests(name, tests)
    check_row("test.jsonl, line 1", row, SCORERS[name].columns, SCORERS[name].problem)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("assert f(1) == 1\n", "'test' has no function check(candidate)"),
        ("check = 1\n", "'test' has no function check(candidate)"),
        ("def check():\n    assert f(1) == 1\n", "the function check of 'test' takes no argument"),
        ("async def check(f):\n    assert f(1) == 1\n", "calling the function check of 'test' does nothing"),
        ("def check(f):\n    assert f(1) == 1\n    yield\n", "calling the function check of 'test' does nothing"),
        ("def check(g):\n    assert 1 + 1 == 2\n", "'test' asserts nothing about the function"),
        ("def check(g):\n    return\n    assert g(1) == 1\n", "'test' asserts nothing about the function"),
        ("def check(g):\n    assert g(1) == 1\ndef check(g):\n    pass\n", "'test' asserts nothing about the function"),
    ],
)
def test_a_check_that_checks_nothing_is_refused(test: str, message: str, tmp_path: Path) -> None:
    assert refused("humaneval_instruct", {**GOOD["humaneval"], "test": test}, tmp_path).startswith(message)


def test_a_check_may_use_helpers_of_its_own() -> None:
    test = "def same(x, y):\n    assert x == y\n\ndef check(g):\n    for x in range(3):\n        same(g(x), x)\n"
    check_row("", {**GOOD["humaneval"], "test": test}, SCORERS["humaneval"].columns, SCORERS["humaneval"].problem)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    "test",
    [
        "def check(f):\n    assert " + "not " * 4000 + "f(1)\n",
        "def check(f):\n" + "    check(f)\n" * 3000,
        "def a(f):\n" + "    b(f)\n" * 1000 + "def b(f):\n" + "    a(f)\n" * 1000 + "def check(f):\n    a(f)\n",
        "def check(f):\n    assert f(1)\n" + "x = 1\n" * 50_000,
        "def check(f):\n    x = [" + "f(1)," * 10_000 + "]\n" + "    x = x\n" * 500,
    ],
    ids=range(5),
)
def test_tests_that_are_deep_or_long_take_no_time(test: str) -> None:
    start = time.process_time()
    with contextlib.suppress(UsageError):
        check_row("", {**GOOD["humaneval"], "test": test}, SCORERS["humaneval"].columns, SCORERS["humaneval"].problem)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("name", ["gsm8k", "math-500", "humaneval", "mbpp"])
def test_published_rows_are_sound(name: str) -> None:
    for row in published(name):
        check_row(name, row, SCORERS[name].columns, SCORERS[name].problem)


@pytest.mark.parametrize(("name", "folder"), [("nano-gsm", "gsm"), ("nano-code", "code")])
def test_rows_of_the_package_are_sound(name: str, folder: str) -> None:
    files = list((ITEMS / folder).glob("*.jsonl"))
    assert files
    for file in files:
        assert read_rows(file, SCORERS[name].columns, SCORERS[name].problem)
