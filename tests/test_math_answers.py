"""Answers of MATH-500: pairs that are and are not the same, texts around them, and the references themselves."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from evaluation.tasks import math500
from evaluation.tasks.jsonl import read_rows
from evaluation.tasks.mathematics import expressions
from evaluation.tasks.mathematics.answer_types import Formula, Words
from evaluation.tasks.mathematics.normalize import normalize
from evaluation.tasks.mathematics.parse import parse

HERE = Path(__file__).resolve().parent
PUBLISHED = HERE.parents[1] / "shared" / "data" / "math500" / "test.jsonl"
PAIRS = read_rows(HERE / "math_pairs.jsonl")
TEXTS = read_rows(HERE / "math_texts.jsonl")

SAME_REFERENCES = {
    ("90^\\circ", "90"),
    ("120^\\circ", "120"),
    ("30^\\circ", "30"),
    ("36", "36^\\circ"),
    ("36", "\\$36"),  # but 36 degrees are not 36 dollars
    ("15", "15\\mbox{ cm}^2"),
    ("5", "x=5"),
    ("1,-2", "-2,1"),
    ("\\frac{1}{4}", "\\frac14"),
    ("10,\\!080", "10080"),
    ("2 \\sqrt{5}", "2\\sqrt{5}"),
    ("40_9", "40"),  # as an answer to a problem that asks for base 9; the other way round it is another number
}
"""All pairs of MATH-500's references that are the same, judged one by one."""


def references() -> list[str]:
    if not PUBLISHED.is_file():
        pytest.skip("the published file math500/test.jsonl is not here")
    return list(dict.fromkeys(row["answer"] for row in read_rows(PUBLISHED)))


def right(reference: str, text: str) -> bool:
    return math500.process_results({"answer": reference}, [text])["math_verify"] == 1.0


@pytest.mark.sampled(8)
@pytest.mark.parametrize("part", range(8))
def test_pairs_that_are_and_are_not_the_same(part: int) -> None:
    pairs = PAIRS[part::8]
    assert not [pair for pair in pairs if math500.same(pair["reference"], pair["answer"]) != pair["same"]]
    assert sum(pair["same"] for pair in pairs) > 70
    assert sum(not pair["same"] for pair in pairs) > 20


@pytest.mark.slow
def test_pairs_are_the_same_either_way() -> None:
    """But a base may be left out of an answer only, and ``x + y = 27`` is 27 as an answer only."""
    other = [pair for pair in PAIRS if math500.same(pair["answer"], pair["reference"]) != pair["same"]]
    assert {(pair["reference"], pair["answer"]) for pair in other} == {
        ("52_8", "52"),
        ("27", "x+y = 27"),
        ("40", "40_9"),
    }


def test_what_a_reference_says_twice_counts_twice() -> None:
    assert math500.same("2,2,3", "3,2,2")
    assert not math500.same("2,2,3", "2,3")
    assert not math500.same("2,2,3", "2,3,3")
    assert math500.same("2,3", "2,2,3")


def test_texts_around_an_answer() -> None:
    assert not [one for one in TEXTS if right(one["reference"], one["text"]) != one["same"]]
    assert len(TEXTS) > 110


@pytest.mark.parametrize(
    "wrapped",
    [
        "So it is $\\boxed{{{}}}$.<|eot_id|>",
        "Final Answer: The final answer is ${}$. I hope it is correct.",
        "The final answer is **{}**.",
        "**Final Answer:** {}",
        "The final answer is: $${}$$",
        "The final answer is \\({}\\), as was to be shown.",
    ],
)
def test_references_are_right_in_both_metrics(wrapped: str) -> None:
    for one in references():
        found = math500.process_results({"answer": one}, [wrapped.format(one)])
        assert found == {"math_verify": 1.0, "exact_match": 1.0}, one


def test_formulas_among_the_references_are_read() -> None:
    """Equal strings are equal without that; here the parser has to take each of them."""
    found = [parse(normalize(one)) for one in references()]
    formulas = [one for one in found if isinstance(one, Formula)]
    assert len(formulas) > 250
    assert all(expressions.equal(one.text, f"{one.text}+0") for one in formulas)
    assert sorted(one.text for one in found if isinstance(one, Words)) == sorted(
        ["evelyn", "east", "even", "ellipse", "navin"]
    )


@pytest.mark.slow
def test_no_other_references_are_the_same() -> None:
    """All pairs of different references, each way; a string is only exact where the answer is the same, too."""
    pairs = combinations(references(), 2)
    assert {pair for pair in pairs if math500.same(*pair) or math500.same(*reversed(pair))} == SAME_REFERENCES
    assert not math500.same("40", "40_9")
    assert math500.process_results({"answer": "36^\\circ"}, ["\\boxed{\\$36}"]) == {"math_verify": 0, "exact_match": 0}


def test_references_that_are_the_same() -> None:
    assert all(math500.same(one, other) for one, other in SAME_REFERENCES)


def test_a_reference_in_other_words_is_no_other_reference() -> None:
    """A sample of the pairs above, for every run of the tests: each with its neighbours in order of length."""
    ordered = sorted(references(), key=lambda one: (len(one), one))
    for place, one in enumerate(ordered):
        for other in ordered[place + 1 : place + 8]:
            if (one, other) not in SAME_REFERENCES and (other, one) not in SAME_REFERENCES:
                assert not math500.same(one, other), (one, other)


@pytest.mark.parametrize(
    ("answer", "spelled"),
    [
        ("1/2", "\\frac{1}{2}"),
        ("\\dfrac12", "\\frac{1}{2}"),
        ("0.50", "0.5"),
        (".5", "0.5"),
        ("x = 5", "5"),
        ("5\\text{ cm}^2", "5"),
        ("\\$5", "5"),
        ("1,234", "1234"),
        ("(1, 2]", "(1,2]"),
        ("\\{1, 2\\}", "1,2"),
        ("2516_{8}", "2516_8"),
        ("\\text{East}.", "east"),
        ("x²", "x^{2}"),
        ("", ""),
    ],
)
def test_one_spelling_of_strings(answer: str, spelled: str) -> None:
    assert math500.normalized(answer) == spelled
