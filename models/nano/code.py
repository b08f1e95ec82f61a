"""Small Python functions to complete from signature and docstring, scored by hidden asserts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

_WORDS = "total count value result size score level price".split()


@dataclass(frozen=True)
class CodeTask:
    """A function to complete: signature and docstring, reference completion, its name, and asserts on it."""

    prompt: str
    body: str
    entry_point: str
    tests: str


@dataclass(frozen=True)
class _Kind:
    """A template for functions: name, docstring and expression, with ``{n}`` and ``{a}`` to fill in."""

    name: str
    doc: str
    expression: str
    inputs: str = "ints"


_KINDS = (
    _Kind("add_{n}", "Return {a} plus {n}.", "{a} + {n}"),
    _Kind("minus_{n}", "Return {a} minus {n}.", "{a} - {n}"),
    _Kind("times_{n}", "Return {a} times {n}.", "{a} * {n}"),
    _Kind("is_above_{n}", "Return whether {a} is above {n}.", "{a} > {n}"),
    _Kind("is_below_{n}", "Return whether {a} is below {n}.", "{a} < {n}"),
    _Kind("is_multiple_of_{n}", "Return whether {a} is a multiple of {n}.", "{a} % {n} == 0"),
    _Kind("rest_by_{n}", "Return the rest of {a} divided by {n}.", "{a} % {n}"),
    _Kind("at_least_{n}", "Return the larger of {a} and {n}.", "max({a}, {n})"),
    _Kind("at_most_{n}", "Return the smaller of {a} and {n}.", "min({a}, {n})"),
    _Kind("distance_to_{n}", "Return the distance between {a} and {n}.", "abs({a} - {n})"),
    _Kind(
        "sum_above_{n}", "Return the sum of the numbers in {a} above {n}.", "sum(x for x in {a} if x > {n})", "lists"
    ),
    _Kind("count_above_{n}", "Count the numbers in {a} above {n}.", "sum(1 for x in {a} if x > {n})", "lists"),
    _Kind("keep_above_{n}", "Keep the numbers in {a} above {n}.", "[x for x in {a} if x > {n}]", "lists"),
    _Kind("keep_below_{n}", "Keep the numbers in {a} below {n}.", "[x for x in {a} if x < {n}]", "lists"),
    _Kind("add_{n}_to_all", "Add {n} to all numbers in {a}.", "[x + {n} for x in {a}]", "lists"),
    _Kind("all_times_{n}", "Multiply all numbers in {a} by {n}.", "[x * {n} for x in {a}]", "lists"),
    _Kind("first_{n}", "Return the first {n} items of {a}.", "{a}[:{n}]", "lists"),
    _Kind("without_first_{n}", "Return {a} without its first {n} items.", "{a}[{n}:]", "lists"),
    _Kind("last_{n}", "Return the last {n} items of {a}.", "{a}[-{n}:]", "lists"),
    _Kind("repeat_{n}", "Repeat the text {a} {n} times.", "{a} * {n}", "texts"),
    _Kind("is_longer_than_{n}", "Return whether the text {a} is longer than {n}.", "len({a}) > {n}", "texts"),
    _Kind("start_{n}", "Return the first {n} letters of the text {a}.", "{a}[:{n}]", "texts"),
)
_ARGUMENTS = {"ints": ("x", "number", *_WORDS), "lists": ("numbers", "items", "data"), "texts": ("text", "word", "s")}
_INPUTS: dict[str, Callable[[Random], object]] = {
    "ints": lambda random: random.randint(-30, 60),
    "lists": lambda random: [random.randint(-20, 40) for _ in range(random.randint(1, 9))],
    "texts": lambda random: "".join(random.choice("abcdefgh") for _ in range(random.randint(1, 9))),
}


def function(random: Random) -> CodeTask:
    """A random function to complete."""
    kind = random.choice(_KINDS)
    n = random.randint(2, 29 if kind.inputs == "ints" else 9)
    argument = random.choice(_ARGUMENTS[kind.inputs])
    name, doc, expression = (part.format(n=n, a=argument) for part in (kind.name, kind.doc, kind.expression))
    # list comprehensions use x, so it must not be the argument
    prompt = f'def {name}({argument}):\n    """{doc}"""\n'
    reference = eval(f"lambda {argument}: {expression}")
    asserts = []
    for _ in range(6):
        value = _INPUTS[kind.inputs](random)
        asserts.append(f"assert {name}({value!r}) == {reference(value)!r}")
    return CodeTask(prompt, f"    return {expression}\n", name, "\n".join(asserts) + "\n")
