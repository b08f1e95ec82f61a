"""Whether two answers are the same."""

from __future__ import annotations

import re
from collections.abc import Sequence

from evaluation.tasks.mathematics import expressions, units
from evaluation.tasks.mathematics.kinds import (
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
from evaluation.tasks.mathematics.reading import is_called

_MOST = 100  # parts of a list that are compared


def equal(gold: Answer, answer: Answer) -> bool:
    """Whether an answer is the reference: the same kind, and the same parts in the order that matters.

    The order of the two matters where a relation stands against its value: see `_equal_relations`.
    """
    if isinstance(gold, Relation) or isinstance(answer, Relation):
        return _equal_relations(gold, answer)
    gold, answer = _alike(gold, answer), _alike(answer, gold)
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
        intervals = all(isinstance(one, Ordered) for one in (*gold.items, *answer.items))
        return (
            (type(gold) is type(answer) or intervals)
            and max(len(gold.items), len(answer.items)) <= _MOST
            and _in_any_order(gold.items, answer.items)
        )
    if isinstance(gold, Ratio) and isinstance(answer, Ratio):
        return _equal_ratios(gold, answer)
    if isinstance(gold, Based) and isinstance(answer, Formula):  # a problem that asks for a base says which
        return gold.digits == compact(answer.text)
    return gold == answer and gold != Words("")


def _alike(one: Answer, other: Answer) -> Answer:
    """``one`` as the kind that ``other`` is, where both can be: a vector as a point, a ratio as a quotient.

    A list that says the same twice, ``1/2 or 0.5``, is what it says; ``x = 1, y = 2`` is a point.
    """
    if isinstance(one, Listed) and isinstance(other, Ordered) and (other.opening, other.closing) == ("(", ")"):
        return _point(one) or one
    if isinstance(one, Listed) and not isinstance(other, Listed) and 1 <= len(one.items) <= _MOST:
        distinct = _distinct(one.items)
        return distinct[0] if len(distinct) == 1 else one
    if isinstance(one, Matrix) and isinstance(other, Ordered) and all(len(row) == 1 for row in one.rows):
        return Ordered("(", tuple(row[0] for row in one.rows), ")")
    if isinstance(one, Ratio) and isinstance(other, Formula):
        quotient = len(one.terms) == 2
        return Formula(rf"\frac{{{one.terms[0]}}}{{{one.terms[1]}}}") if quotient else Words(":".join(one.terms))
    return one


def _point(one: Listed) -> Ordered | None:
    """The coordinates that a list gives by their names, in the order of these."""
    values = {}
    for item in one.items:
        if not isinstance(item, Relation) or item.sign != "=" or not re.fullmatch(r"[a-zA-Z]|\\[a-z]+", item.left):
            return None
        values[item.left.startswith("\\"), item.left] = item.value
    return Ordered("(", tuple(values[name] for name in sorted(values)), ")") if len(values) == len(one.items) else None


def _equal_relations(gold: Answer, answer: Answer) -> bool:
    """Two answers of which one is a relation.

    ``x = 5`` is 5, whichever of the two is the reference; ``x + y = 27`` is 27 as an answer only, as a reference it is
    a line. Nothing else has a value: ``> 27`` is not 27.
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
    """Whether a side is made of different letters, ``x + y``, so that it is what was asked for, and no equation."""
    letter = r"[a-zA-Z](?:_\{\w+\})?"
    names = re.findall(letter, text)
    is_sum = re.fullmatch(rf"(?:{letter})+(?:[+-](?:{letter})+)*", compact(text)) is not None
    return is_sum and len(set(names)) == len(names)


def _equal_ratios(one: Ratio, other: Ratio) -> bool:
    """Equal terms, or multiples of them; those of a time of day have to be equal."""
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
    """Whether each of the reference has a partner of its own in the answer.

    What an answer says twice counts once, unless the reference has something twice, as prime factors are.
    """
    several = len(_distinct(gold)) < len(gold)
    left = list(answer) if several else _distinct(answer)
    for one in gold:
        partner = next((place for place, candidate in enumerate(left) if equal(one, candidate)), None)
        if partner is None:
            return False
        left.pop(partner)
    return not left


def _distinct(answers: Sequence[Answer]) -> list[Answer]:
    found: list[Answer] = []
    for one in answers:
        if not any(equal(one, other) for other in found):
            found.append(one)
    return found
