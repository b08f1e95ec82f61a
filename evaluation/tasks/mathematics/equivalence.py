"""Whether two answers are equal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from evaluation.tasks.mathematics import expressions, units
from evaluation.tasks.mathematics.answer_types import (
    Answer,
    Based,
    Formula,
    Listed,
    Matrix,
    Ordered,
    Ratio,
    Relation,
    Union,
    Words,
    compact,
)
from evaluation.tasks.mathematics.parse import is_called

_MAX_ITEMS = 100  # of a list


def equal(gold: Answer, answer: Answer) -> bool:
    """Whether an answer equals the reference: the same kind, and equal parts, in order where order matters.

    Not symmetric where a relation is compared with a value: see `_equal_relations`.
    """
    if isinstance(gold, Relation) or isinstance(answer, Relation):
        return _equal_relations(gold, answer)
    gold, answer = _as_kind_of(gold, answer), _as_kind_of(answer, gold)
    if isinstance(gold, Relation) or isinstance(answer, Relation):
        return _equal_relations(gold, answer)
    if isinstance(gold, Formula) and isinstance(answer, Formula):
        return units.alike(gold.units, answer.units) and (
            compact(gold.text) == compact(answer.text) or expressions.equal(gold.text, answer.text)
        )
    if isinstance(gold, Ordered) and isinstance(answer, Ordered):
        brackets = (gold.opening, gold.closing) == (answer.opening, answer.closing)
        return brackets and _in_order(gold.items, answer.items)
    if isinstance(gold, Matrix) and isinstance(answer, Matrix):
        return len(gold.rows) == len(answer.rows) and all(map(_in_order, gold.rows, answer.rows))
    if isinstance(gold, Listed | Union) and isinstance(answer, Listed | Union):
        intervals = all(isinstance(item, Ordered) for item in (*gold.items, *answer.items))
        return (
            (type(gold) is type(answer) or intervals)
            and max(len(gold.items), len(answer.items)) <= _MAX_ITEMS
            and _in_any_order(gold.items, answer.items)
        )
    if isinstance(gold, Ratio) and isinstance(answer, Ratio):
        return _equal_ratios(gold, answer)
    if isinstance(gold, Based) and isinstance(answer, Formula):  # the problem says which base
        return gold.digits == compact(answer.text)
    return gold == answer and gold != Words("")


def _as_kind_of(one: Answer, other: Answer) -> Answer:
    """``one`` as the kind of ``other``, if it can be that: a vector as a point, a ratio as a quotient.

    A list of equal items, ``1/2 or 0.5``, is that item; ``x = 1, y = 2`` is a point.
    """
    if isinstance(one, Listed) and isinstance(other, Ordered) and (other.opening, other.closing) == ("(", ")"):
        return _point(one) or one
    if isinstance(one, Listed) and not isinstance(other, Listed) and 1 <= len(one.items) <= _MAX_ITEMS:
        distinct = _distinct(one.items)
        return distinct[0] if len(distinct) == 1 else one
    if isinstance(one, Matrix) and isinstance(other, Ordered) and all(len(row) == 1 for row in one.rows):
        return Ordered("(", tuple(row[0] for row in one.rows), ")")
    if isinstance(one, Ratio) and isinstance(other, Formula):
        quotient = len(one.terms) == 2
        return Formula(rf"\frac{{{one.terms[0]}}}{{{one.terms[1]}}}") if quotient else Words(":".join(one.terms))
    return one


def _point(one: Listed) -> Ordered | None:
    """A list of named coordinates as a point, in the order of the names."""
    values = {}
    for item in one.items:
        if not isinstance(item, Relation) or item.sign != "=" or not re.fullmatch(r"[a-zA-Z]|\\[a-z]+", item.left):
            return None
        values[item.left.startswith("\\"), item.left] = item.value
    return Ordered("(", tuple(values[name] for name in sorted(values)), ")") if len(values) == len(one.items) else None


def _equal_relations(gold: Answer, answer: Answer) -> bool:
    """Compare two answers, at least one a relation.

    ``x = 5`` equals 5, whichever is the reference. ``x + y = 27`` equals 27 only as an answer; as a reference it is a
    line. No other relation has a value: ``> 27`` is not 27.
    """
    if not isinstance(gold, Relation):
        if not isinstance(answer, Relation) or answer.sign != "=":
            return False
        return (answer.named or _is_sum(answer.left)) and equal(gold, answer.value)
    if not isinstance(answer, Relation):
        return gold.sign == "=" and gold.named and equal(gold.value, answer)
    if gold.sign != answer.sign:
        return False
    same_left = compact(gold.left) == compact(answer.left)
    called = gold.named and answer.named and (is_called(gold.left) or is_called(answer.left))
    if gold.sign == "=" and (same_left or called):
        return equal(gold.value, answer.value)
    if same_left and compact(gold.right) == compact(answer.right):
        return True
    signed = gold.sign != "="
    return expressions.proportional((gold.left, gold.right), (answer.left, answer.right), signed)


def _is_sum(text: str) -> bool:
    """Whether a side is a sum of different letters, ``x + y``: then it names what was asked for."""
    letter = r"[a-zA-Z](?:_\{\w+\})?"
    names = re.findall(letter, text)
    is_sum = re.fullmatch(rf"(?:{letter})+(?:[+-](?:{letter})+)*", compact(text)) is not None
    return is_sum and len(set(names)) == len(names)


def _equal_ratios(one: Ratio, other: Ratio) -> bool:
    """Equal or proportional terms; those of a time of day must be equal."""
    if len(one.terms) != len(other.terms) or not units.alike(one.units, other.units):
        return False
    if all(map(expressions.equal, one.terms, other.terms)):
        return True
    if any(re.fullmatch(r"[0-5]\d", ratio.terms[1]) for ratio in (one, other)):
        return False
    quotients = [[rf"\frac{{{term}}}{{{ratio.terms[0]}}}" for term in ratio.terms[1:]] for ratio in (one, other)]
    return all(map(expressions.equal, *quotients))


def _in_order(gold: Sequence[Answer], answer: Sequence[Answer]) -> bool:
    return len(gold) == len(answer) and all(map(equal, gold, answer))


def _in_any_order(gold: Sequence[Answer], answer: Sequence[Answer]) -> bool:
    """Whether the items of both can be paired.

    Repetitions in the answer count once, unless the reference has some, too, as prime factors do.
    """
    repeats = len(_distinct(gold)) < len(gold)
    unpaired = list(answer) if repeats else _distinct(answer)
    for item in gold:
        partner = next((index for index, candidate in enumerate(unpaired) if equal(item, candidate)), None)
        if partner is None:
            return False
        unpaired.pop(partner)
    return not unpaired


def _distinct(answers: Sequence[Answer]) -> list[Answer]:
    distinct: list[Answer] = []
    for answer in answers:
        if not any(equal(answer, other) for other in distinct):
            distinct.append(answer)
    return distinct
