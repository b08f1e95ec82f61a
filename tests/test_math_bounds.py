"""Scoring of degenerate output: any text at all gets a score, in well under a second, and no number takes memory."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from evaluation.tasks import gsm8k, math500
from evaluation.tasks.jsonl import read_rows
from evaluation.tasks.scorers import SCORERS

HERE = Path(__file__).resolve().parent
LENGTH = 100_000
QUICK = 3.0
"""Seconds that one score may take here; it takes a few hundredths, but a busy machine is slower."""

UNITS = [
    *("\\boxed{", "\\boxed{1}", "\\boxed{1} and ", "\\boxed{1},", "\\boxed ", "{", "}", "(", "[", "|", "$", "$$", "$1"),
    *(
        "1",
        "1,",
        "1.",
        "1 ",
        "-1",
        "1e",
        "1/",
        "1\\\\",
        "1&",
        "10^",
        "2^{",
        " ",
        "\n",
        "word ",
        "1 cm ",
        " and ",
        "is ",
    ),
    *(
        "final answer is ",
        "The final answer is 5. ",
        "final answer:**",
        "final  answer",
        "#### ",
        "#### 1",
        "#",
        "-",
        "!",
    ),
    *(
        "\\frac",
        "\\frac{",
        "\\text{",
        "\\text{a}",
        "\\sqrt",
        "\\pm",
        "^\\circ",
        "^{",
        "^",
        "_",
        "\\",
        "\\(",
        "\\[",
        "\\left(",
    ),
    *("=", "<", "x", "x+", "\\begin{pmatrix}", "\\mathrm{", '"', "'", "`", "*", "**", "~", "\\,", "%", ".", ",", "&"),
    *("é", "²", "½", "√", "😀", "\0", "\ud800", "0\u0305", "\u202e", "\u200b", "٣", "\U0001d7db"),
]
TASKS = {"math-500": "x^2+1", "gsm8k": "So\n#### 5", "nano-gsm": "So\n#### 5"}


def score(task: str, answer: str, text: str) -> dict[str, float]:
    found = SCORERS[task].score({"answer": answer}, text, text, None)
    assert set(found.values()) <= {0.0, 1.0}
    return found


@pytest.mark.sampled(24)
@pytest.mark.parametrize("unit", UNITS, ids=ascii)
def test_degenerate_output_is_scored_at_once(unit: str) -> None:
    flood = (unit * LENGTH)[:LENGTH]
    texts = [
        flood,
        f"\\boxed{{{flood}}}",
        f"\\boxed{{{flood[:1536]}}}",
        f"\\boxed{{{flood[:390]}}}",
        f"\\boxed{{{flood[:60]}}}",
        f"The final answer is {flood}",
        f"The final answer is {flood[:900]}",
        f"${flood[:900]}$",
        f"#### {flood}",
        f"{flood} 5",
    ]
    for text in texts:
        for task, answer in TASKS.items():
            start = time.monotonic()
            score(task, answer, text)
            assert time.monotonic() - start < QUICK, (task, text[:40])


HUGE = [
    "9^{9^{9^9}}",
    "10^{10^8}",
    "10^{-10^9}",
    "2^{2^{2^{2^{2^{2}}}}}",
    "(10^8)!",
    "100000000!",
    "3!!!!!!",
    "x!!!!!!!!",
    "\\binom{10^9}{10^8}",
    "\\binom{1000000000}{500000000}",
    "e^{e^{e^{e^{e^e}}}}",
    "\\sin(10^{10^{10}})",
    "\\log(10^{10^{10^{10}}})",
    "\\sqrt{10^{10^{10}}}",
    "1.0000001^{10^{10}}",
    "(x+1)^{10^9}",
    "|10^{10^9}|",
    "\\lfloor e^{e^{10}}\\rfloor",
    "9^{10^{10}} \\mod 7",
    "\\max(9^{9^9},1)",
    "\\sum_{k=1}^{10^9} k",
    "\\int_0^1 e^{x^2} dx",
    "1e999999999",
    "\\cosh(10^{8})",
    "5\\cdot 10^{10^{8}}/10^{10^{8}}",
    "((((((((((1))))))))))+1",
    "\\sin(" * 7 + "x" + ")" * 7,
    "{" * 400 + "1" + "}" * 400,
    "1+" * 190 + "1",
    "9" * 390,
    ",".join(map(str, range(250))),
]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("answer", HUGE, ids=lambda answer: answer[:40])
def test_large_numbers_take_neither_time_nor_memory(answer: str) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    assert not math500.same("5", answer)
    assert not math500.same("x+1", answer)
    assert not math500.same(answer, f"{answer}+1")
    assert time.monotonic() - start < 3 * math500.CPU_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 2**10  # KiB, on Linux


def test_any_text_has_a_score() -> None:
    """Pieces of answers in any order, and any characters."""
    stream = random.Random(11)
    pieces = [piece for pair in read_rows(HERE / "math_pairs.jsonl") for piece in pair["answer"].split()]
    characters = [chr(place) for place in (*range(0x250), *range(0x2000, 0x2300), *range(0xD7F0, 0xD810), 0x1F600)]
    for turn in range(200):
        source = (pieces, UNITS, characters)[turn % 3]
        text = "".join(stream.choices(source, k=stream.randrange(1, 14)))
        for wrapped in (text, f"\\boxed{{{text}}}", f"The final answer is {text}"):
            for task, answer in TASKS.items():
                score(task, answer, wrapped)
        score("math-500", text, f"\\boxed{{{text}}}")


def test_numbers_are_found_as_before_where_no_hash_stands() -> None:
    assert gsm8k.same("1,234.", "a\n#### 5\n#### 1234")
    assert gsm8k.same("#### 7 #### 8", "8")
    assert not gsm8k.same("12", "#### 1")


def test_a_score_needs_no_main_thread() -> None:
    found: list[dict[str, float]] = []
    worker = threading.Thread(target=lambda: found.append(score("math-500", "\\frac12", "\\boxed{0.5}")))
    worker.start()
    worker.join()
    assert found == [{"math_verify,none": 1.0, "exact_match,none": 0.0}]


def test_an_endless_comparison_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds hold before the limit does; a short limit shows that it works."""
    monkeypatch.setattr(math500, "CPU_SECONDS", 0.05)
    start = time.monotonic()
    assert not math500.same("x+2", "\\sin(" * 7 + "y" + ")" * 7)
    assert time.monotonic() - start < 10
    assert math500.same("5", "5.0")
