"""docs/combinations.md is what the combinations do."""

from __future__ import annotations

import re

import pytest
from torch import Tensor

from cache_zoo import Cache, Step
from cache_zoo.stores import STORES
from tools import combinations
from tools.combinations import CACHES, DECODINGS, SUFFIXES, Combination, all_runs, by_decoding, by_method, refusal

SAMPLE = 12
"""Every so many combinations are run by the fast test."""


def tables() -> list[list[list[str]]]:
    """Cells of the two tables of the document, with titles, without marks of code."""
    text = combinations.DOCUMENT.read_text()
    found = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [
        [[cell.strip(" `") for cell in line.strip("|\n").split("|")] for line in table.splitlines()] for table in found
    ]


def reasons() -> list[str]:
    return re.findall(r"^\d+\. (.*)$", combinations.DOCUMENT.read_text(), re.MULTILINE)


def test_the_document_has_every_choice() -> None:
    decodings, methods = tables()
    assert decodings[0][1:] == list(DECODINGS)
    assert methods[0][1:] == [f"{suffix}, {store}" for suffix in SUFFIXES for store in STORES]
    for table in (decodings, methods):
        assert [line[0] for line in table[2:]] == CACHES


def test_a_sample_does_what_the_document_says() -> None:
    said = {
        one: cell
        for lines, table in zip((by_decoding(), by_method()), tables(), strict=True)
        for line, cells in zip(lines, table[2:], strict=True)
        for one, cell in zip(line, cells[1:], strict=True)
    }
    for number, (one, cell) in enumerate(said.items()):
        if cell != "yes":
            assert reasons()[int(re.findall(r"\d+", cell)[0]) - 1] == refusal(one)
        elif number % SAMPLE == 0:
            assert refusal(one) is None
    assert list(combinations.failures(all_runs()[::SAMPLE])) == []


class Forgetful(Cache):
    """Runs only the block where a sequence is alone."""

    def rows(self, step: Step) -> Tensor | None:
        return None if step.canvas.shape[0] == 3 else step.block


def test_what_fails_is_reported() -> None:
    (failure,) = combinations.failures([Combination("tests.test_combinations:Forgetful")])
    assert failure.startswith("cache=tests.test_combinations:Forgetful suffix=all store=native blocks (llada): ")
    assert failure.endswith(" differs alone")


@pytest.mark.slow
def test_every_combination_works_or_is_refused() -> None:
    assert list(combinations.failures(all_runs())) == []
    assert list(combinations.unexplained()) == []
    assert combinations.document() == combinations.DOCUMENT.read_text(), "make combinations"
