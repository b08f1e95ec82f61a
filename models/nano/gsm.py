"""Grade-school arithmetic in plain English, the problems of the embedded models.

A story follows one quantity through two to four operations. The worked answer has one equation per operation and ends
with ``#### result``, as GSM8K's do.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

NAMES = (
    "Mia Tom Ana Ben Lily Sam Zoe Max Emma Jack Nora Leo Ruth Omar Ivy Hugo Kate Paul Rosa Finn Maya Carl Jane Ali"
).split()
THINGS = (
    "apples books coins pens cards stamps shells marbles eggs cookies balls stickers flowers rocks cups toys plums "
    "nuts boxes keys beads buttons hats candles"
).split()
HOLDERS = "bags boxes baskets jars packs rows".split()
FRIENDS = "friends cousins children neighbors".split()
LARGEST = 99
"""Largest quantity in a story."""


@dataclass(frozen=True)
class Problem:
    """A question, the equations of its answer and the result."""

    question: str
    equations: tuple[str, ...]
    result: int

    @property
    def answer(self) -> str:
        """The worked answer."""
        return " ".join([*self.equations, f"#### {self.result}"])

    def shot(self, answered: bool = True) -> str:
        """The problem as a prompt has it, with the answer or up to its start."""
        head = f"Question: {self.question}\nAnswer:"
        return f"{head} {self.answer}\n\n" if answered else head


def problem(random: Random) -> Problem:
    """A random problem of two to four operations."""
    steps = random.choice((2, 2, 3, 3, 4))
    name, thing = random.choice(NAMES), random.choice(THINGS)
    sentences: list[str] = []
    equations: list[str] = []

    def equation(left: int, sign: str, right: int, result: int) -> int:
        equations.append(f"{left} {sign} {right} = {result}.")
        return result

    if random.random() < 0.5:
        groups, each = random.randint(2, 9), random.randint(2, 9)
        sentences.append(f"{name} has {groups} {random.choice(HOLDERS)} with {each} {thing} each.")
        amount = equation(groups, "*", each, groups * each)
    else:
        amount = random.randint(2, 60)
        sentences.append(f"{name} has {amount} {thing}.")

    asked = f"How many {thing} does {name} have now?"
    while len(equations) < steps:
        last = len(equations) == steps - 1
        kind = random.choice(("more", "less", "groups", "end") if last else ("more", "less", "groups"))
        if kind == "end":
            ending = _ending(random, name, thing, amount)
            if ending is not None:
                asked, (sign, other, result) = ending
                amount = equation(amount, sign, other, result)
                continue
            kind = "more"
        if kind == "groups" and amount <= LARGEST - 4 and len(equations) <= steps - 2:
            groups, each = random.randint(2, 6), random.randint(2, 6)
            if amount + groups * each <= LARGEST:
                verb = random.choice(("buys", "finds", "gets"))
                sentences.append(f"{name} {verb} {groups} {random.choice(HOLDERS)} with {each} {thing} each.")
                extra = equation(groups, "*", each, groups * each)
                amount = equation(amount, "+", extra, amount + extra)
                continue
        if (kind != "less" and amount < LARGEST) or amount < 3:
            more = random.randint(1, min(40, LARGEST - amount))
            sentences.append(random.choice((f"{name} buys {more} more.", f"Then {name} finds {more} more {thing}.")))
            amount = equation(amount, "+", more, amount + more)
        else:
            less = random.randint(1, min(40, amount - 1))
            gift = f"{name} gives {less} {thing} to {random.choice(NAMES)}."
            sentences.append(random.choice((gift, f"Then {name} loses {less} of them.", f"{name} sells {less}.")))
            amount = equation(amount, "-", less, amount - less)
    return Problem(" ".join([*sentences, asked]), tuple(equations), amount)


def _ending(random: Random, name: str, thing: str, amount: int) -> tuple[str, tuple[str, int, int]] | None:
    """A final question with one more operation, if one fits ``amount``: question, sign, operand, result."""
    divisors = [n for n in range(2, 10) if amount % n == 0]
    prices = [n for n in range(2, 10) if amount * n <= LARGEST]
    if divisors and (not prices or random.random() < 0.5):
        n = random.choice(divisors)
        asked = f"{name} shares them equally among {n} {random.choice(FRIENDS)}. How many {thing} does each one get?"
        return asked, ("/", n, amount // n)
    if prices:
        n = random.choice(prices)
        return f"{name} sells them all for {n} dollars each. How many dollars does {name} get?", ("*", n, amount * n)
    return None
