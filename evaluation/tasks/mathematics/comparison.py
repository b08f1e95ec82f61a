"""Compare two answers to a problem, whatever they are."""

from __future__ import annotations

import re

from evaluation.tasks.mathematics import equivalence
from evaluation.tasks.mathematics.answer_types import canonical
from evaluation.tasks.mathematics.parse import choice, interpretations, parse


def equal(gold: str, answer: str) -> bool:
    """Whether two normalized answers are equal: the first reading of ``gold`` and any of ``answer``, or any of ``gold``
    and the first of ``answer``."""
    if not gold or not answer:
        return False
    option = _option(gold) or (gold if re.fullmatch("[A-J]", gold) else None)
    if option and _option(answer) == option:
        return True
    first, *others = interpretations(gold)
    meanings = interpretations(answer)
    return any(equivalence.equal(first, meaning) for meaning in meanings) or any(
        equivalence.equal(other, parse(answer)) for other in others
    )


def spelling(answer: str) -> str:
    """One spelling for normalized answers that are written alike."""
    return canonical(parse(answer))


def _option(text: str) -> str | None:
    return text[1].upper() if re.fullmatch(r"\([a-j]\)", text) else choice(text)
