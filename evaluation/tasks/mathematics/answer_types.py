r"""The kinds of answers. Parts of a structure are answers, too; the innermost are formulas or words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Formula:
    """A number or an expression, with its units."""

    text: str
    units: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Words:
    """An answer in words, lower case, without punctuation."""

    text: str


@dataclass(frozen=True)
class Based:
    """A number in a base other than ten."""

    digits: str
    base: int


@dataclass(frozen=True)
class Ratio:
    """``3:4``, or a time of day."""

    terms: tuple[str, ...]
    units: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Listed:
    r"""Unordered answers: a list, a set, both signs of ``\pm``."""

    items: tuple[Answer, ...]


@dataclass(frozen=True)
class Ordered:
    """A point or an interval, with its brackets."""

    opening: str
    items: tuple[Answer, ...]
    closing: str


@dataclass(frozen=True)
class Union:
    """A union of sets."""

    items: tuple[Answer, ...]


@dataclass(frozen=True)
class Matrix:
    """Rows of answers."""

    rows: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True)
class Relation:
    r"""Two sides and ``=``, ``<``, ``\le`` or another sign.

    ``value`` is the right side as an answer; if ``named``, the left side is only a name for it.
    """

    sign: str
    left: str
    right: str
    value: Answer
    named: bool = False


Answer: TypeAlias = "Formula | Words | Based | Ratio | Listed | Ordered | Union | Matrix | Relation"


def canonical(answer: Answer) -> str:
    """An answer as a string without units, names and surrounding words: equal for answers written alike."""
    if isinstance(answer, Formula):
        return _number(compact(answer.text))
    if isinstance(answer, Words):
        return answer.text
    if isinstance(answer, Based):
        return f"{answer.digits}_{answer.base}"
    if isinstance(answer, Ratio):
        return ":".join(map(compact, answer.terms))
    if isinstance(answer, Relation):
        right = canonical(answer.value)
        return right if answer.named and answer.sign == "=" else f"{compact(answer.left)}{answer.sign}{right}"
    if isinstance(answer, Matrix):
        return "[" + ";".join(",".join(map(canonical, row)) for row in answer.rows) + "]"
    items = (r"\cup" if isinstance(answer, Union) else ",").join(map(canonical, answer.items))
    return f"{answer.opening}{items}{answer.closing}" if isinstance(answer, Ordered) else items or r"\emptyset"


def compact(text: str) -> str:
    """A text without spaces."""
    return re.sub(r"\s+", "", text)


def _number(text: str) -> str:
    text = re.sub(r"(?<![\d.])\.(?=\d)", "0.", text.removeprefix("+"))
    text = re.sub(r"(\.\d*?)0+(?!\d)", r"\1", text)
    text = re.sub(r"\.(?!\d)", "", text)
    return re.sub(r"^(-?)(\d+)/(\d+)$", r"\1\\frac{\2}{\3}", text)
