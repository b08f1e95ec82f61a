"""Extracting the program from an answer; it passes if the answer is right."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluation.sandbox import Sandbox
from evaluation.tasks.answer_parts import parts_of
from evaluation.tasks.extraction import extract
from evaluation.tasks.jsonl import read_rows
from evaluation.tasks.scorers import SCORERS
from tests.layers import MISSING

HERE = Path(__file__).resolve().parent
TEXTS = read_rows(HERE / "extraction_cases.jsonl")
"""Answers and the exact program in them."""
CASES = read_rows(HERE / "code_cases.jsonl")
"""Answers to one problem, and whether they are right."""
AREA = {
    "prompt": 'def area(a, b):\n    """Area of a rectangle."""\n',
    "entry_point": "area",
    "test": "def check(f):\n    assert f(2, 3) == 6\n    assert f(4, 5) == 20\n",
}
PUBLIC = HERE.parent.parent / "shared" / "public-cases" / "code_cases.jsonl"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(MISSING) as sandbox:
        yield sandbox


@pytest.mark.sampled(4)
@pytest.mark.skipif(sys.platform == "win32", reason="programs are not run on Windows")
@pytest.mark.parametrize("case", CASES, ids=[case["kind"] for case in CASES])
def test_an_answer_passes_where_it_is_right(case: dict[str, Any], sandbox: Sandbox) -> None:
    found = SCORERS["humaneval_instruct"].score(AREA, case["raw"], case["raw"], sandbox)
    assert found["pass@1,extract_code"] == case["passes"], found


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 150
    assert len({case["raw"] for case in CASES}) == len({case["kind"] for case in CASES}) == len(CASES)
    assert len(TEXTS) >= 30
    assert len({case["raw"] + case["prompt"] for case in TEXTS}) == len(TEXTS)


@pytest.mark.parametrize("case", TEXTS, ids=[case["name"] for case in TEXTS])
def test_the_program_in_a_generation(case: dict[str, Any]) -> None:
    assert extract(case["raw"], set(case["needed"]), case["prompt"]) == case["expected"]


def test_an_extracted_program_is_found_in_itself() -> None:
    for case in TEXTS:
        if case["expected"]:
            once = extract(case["expected"], set(case["needed"]))
            assert once
            assert extract(once, set(case["needed"])) == once
            # what the prompt has beside the function need not be used
            assert set(once.split("\n")) <= set(case["expected"].split("\n"))


def test_a_value_comes_before_what_uses_it_at_once() -> None:
    raw = "def f(x=LIMIT): return x\n\nLIMIT = limit()\n\ndef limit(): return ONE\n\nONE = 1\n"
    lines = [line for line in extract(raw, {"f"}).split("\n") if line]
    assert lines == ["def limit(): return ONE", "ONE = 1", "LIMIT = limit()", "def f(x=LIMIT): return x"]


def test_what_is_not_used_is_left_behind() -> None:
    raw = "import os, sys\nimport math\nUNUSED = 1\nclass Other: pass\ndef f(x): return math.floor(x)\nf(input())\n"
    assert extract(raw, {"f"}) == "import math\n\ndef f(x): return math.floor(x)\n"


def test_the_parts_of_an_answer() -> None:
    assert [part.lines for part in parts_of("a\n<think>b</think>\nc\n<think>d")] == [["a", "", "c", ""]]
    found = parts_of("a\n```python\nb\n```\nc\n```bash\nd\n```\n~~~\ne")
    assert [("".join(part.lines), part.fenced, part.closed) for part in found] == [
        ("a", False, True),
        ("b", True, True),
        ("c", False, True),
        ("", False, True),
        ("e", True, False),
    ]


def test_extraction_of_damaged_text_is_quick_and_never_fails() -> None:
    stream = random.Random(3)
    text = "".join(case["raw"] + "\n" for case in [*TEXTS, *CASES])
    start = time.process_time()
    for _ in range(100):
        begin, end = sorted(stream.choices(range(len(text)), k=2))
        damaged = text[begin : min(end, begin + 3000)] + stream.choice(
            ["", "\0", "(" * 300, '"""', "`" * 7, "\\", "\f", "<think>", "\ud800"]
        )
        compile(extract(damaged, {"has_even"}, TEXTS[0]["prompt"]).encode("utf-8", "replace"), "", "exec")
    assert time.process_time() - start < 20


SIZE = 100_000
FLOODS = {
    "fences": "```\n",
    "fences marked Python": "```python\n",
    "fences without lines": "```",
    "waves": "~~~\n",
    "brackets": "(",
    "brackets on lines": "((((\n",
    "lists": "[",
    "closing brackets": ")",
    "functions that begin": "def f(",
    "functions without a body": "def f():\n",
    "the function without a body": "def area(a, b):\n",
    "versions": "def area(a, b):\n    return a\n",
    "bodies": "    return a * b\n",
    "decorators": "@a\n",
    "classes": "class A:\n",
    "lines": "\n",
    "spaces": " ",
    "tabs": "\t",
    "letters": "a",
    "quotes": '"',
    "strings": '"""\n',
    "thoughts": "<think>\n",
    "thoughts that end": "<think></think>\n",
    "ends of thoughts": "</think>\n",
    "values": "x = 1\n",
    "values on a line": "x=1;",
    "values of themselves": "x = x + 1\n",
    "imports": "import a\n",
    "tries": "try:\n    pass\nexcept:\n    pass\n",
    "conditions": "if 1:\n    pass\nelif 1:\n    pass\n",
    "lambdas": "lambda:",
    "comprehensions": "[x for x in ",
    "minus": "-",
    "calls": "f(",
    "attributes": "a.",
    "NULs": "\0",
    "backslashes": "\\\n",
    "half surrogates": "\ud800",
    "examples": ">>> area(1)\n",
}


def flood(name: str) -> str:
    return (FLOODS[name] * SIZE)[:SIZE]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", list(FLOODS))
@pytest.mark.parametrize("before", ["", "```python\n", "    ", "x = ", '"""\n'], ids=ascii)
def test_floods_are_given_up_at_once(name: str, before: str) -> None:
    start = time.process_time()
    extract(before + flood(name), {"area"}, AREA["prompt"])
    extract(f"<think>\n{flood(name)}\n</think>\n```python\ndef area(a, b):\n    return a * b\n```", {"area"})
    assert time.process_time() - start < 2


def nested(depth: int, line: str) -> str:
    return "".join("    " * level + line + "\n" for level in range(depth))


@pytest.mark.parametrize(
    "raw",
    [
        nested(200, "if a:"),
        nested(200, "for x in y:"),
        nested(200, "def f():"),
        "x = " + "+".join("1" * 30_000),
        "x = " + "not " * 20_000 + "1",
        "x = a" + "()" * 30_000,
        "def area(a, b):\n    return f0\n" + "".join(f"def f{n}():\n    return f{n + 1}\n" for n in range(3000)),
        "def area(a, b):\n    return f0\n" + "".join(f"f{n} = f{n + 1}\n" for n in range(3000)),
        "def area(a, b):\n    return x\n" + "x = x + 1\n" * 5000,
        "x = 9**9**9**9\ndef area(a, b):\n    return x\n",
        "x = (1,) * 10**9\ndef area(a, b):\n    return x\n",
        "x = " + "9" * 5000 + "\ndef area(a, b):\n    return x\n",
    ],
    ids=range(12),
)
def test_programs_that_are_deep_or_long_take_no_time(raw: str) -> None:
    start = time.process_time()
    extract(raw, {"area"}, AREA["prompt"])
    assert time.process_time() - start < 2


@pytest.mark.skipif(not PUBLIC.is_file(), reason="the public cases are not here")
def test_the_public_cases(sandbox: Sandbox) -> None:
    for case in read_rows(PUBLIC):
        found = SCORERS["humaneval_instruct"].score(case, case["raw"], case["raw"], sandbox)
        assert found["pass@1,extract_code"] == case["passes"], case["kind"]
