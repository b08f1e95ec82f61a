r"""What an answer is: number, list, interval, union, matrix, relation, ratio or words; `read` finds out, `equal` compares.

The parts of a structure are answers themselves; the innermost are expressions (`math_expressions`) or words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from evaluation.tasks import math_expressions, math_units


@dataclass(frozen=True)
class Expression:
    """A number or formula, and the names of the units behind it."""

    text: str
    units: frozenset[str] | None = None


@dataclass(frozen=True)
class Words:
    """An answer in words, in small letters without punctuation."""

    text: str


@dataclass(frozen=True)
class Based:
    """A number in another base than ten."""

    digits: str
    base: int


@dataclass(frozen=True)
class Listed:
    """Answers without an order: a list, a set, both signs of ``\\pm``."""

    items: tuple[Answer, ...]


@dataclass(frozen=True)
class Ordered:
    """A point or an interval, with its brackets."""

    opening: str
    items: tuple[Answer, ...]
    closing: str


@dataclass(frozen=True)
class Union:
    """Sets that are joined."""

    items: tuple[Answer, ...]


@dataclass(frozen=True)
class Matrix:
    """Rows of answers."""

    rows: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True)
class Ratio:
    """``3:4``, or a time of day."""

    terms: tuple[str, ...]
    units: frozenset[str] | None = None


@dataclass(frozen=True)
class Relation:
    """Two sides and ``=``, ``<``, ``\\le`` or another sign.

    Attributes:
        value: the right side.
        named: the left side is no more than a name of it.
    """

    sign: str
    left: str
    right: str
    value: Answer
    named: bool


Answer: TypeAlias = "Expression | Words | Based | Listed | Ordered | Union | Matrix | Ratio | Relation"

_LINK = re.compile(r",?\s*\\text\{(?:and|or)\}|[,;]")
_SIGN = re.compile(r"\\(?:ne|le|ge|approx|in|equiv|notin)(?![a-zA-Z])|[=<>]")
_TURNED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", "=": "=", r"\ne": r"\ne"}
_MATRIX = re.compile(
    r"(?P<factor>[^&]*?)[(\[]?\s*\\begin\{(?:[pbBV]?|small)(?:matrix|array)\}(?:\{[clr| ]*\})?(?P<rows>.*)"
    r"\\end\{[a-zA-Z]+\}\s*[)\]]?",
    re.DOTALL,
)
_BASE = re.compile(
    r"(?:\(?\{?(?P<digits>[0-9A-Z][0-9A-Z. ]*)\}?\)?)\s*"
    r"(?:_\s*\{?\(?(?P<base>\d+)\)?\}?|_\s*\{?\(?\s*(?:\\text\{)?(?:base )?(?P<name>[a-z]+)\}?\s*\)?\}?|"
    r"_\s*\{\\text\{base\}\s*(?P<other>\d+)\}|\(?\\text\{(?:in )?base\}\s*(?P<written>\d+)\)?)"
)
_BASES = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
_CHOICE = re.compile(r"\(?\s*([A-J])\s*(?:\)|[.:])\s*(.*)", re.DOTALL)
_SUFFIX = re.compile(
    r"(?:\\text\{[^{}]*\}|\\%|%|\\\$|€|£|¢|\^\{\\circ\}|\^\s*\{\s*\\circ\s*\})\s*(?:\^\{?-?\d\}?)?\s*$|"
    r"\\frac\{\s*(?:\d\s*)?(\\text\{[^{}]*\})[^{}]*\}\{\s*(\\text\{[^{}]*\})(?:\^\{?\d\}?)?\s*\}\s*$|"
    r"(?<=\})\s*(?:/|\\cdot|\^\{?-?\d\}?)\s*$"
)
_SYMBOLS = {r"\$": "dollar", "€": "euro", "£": "pound-sterling", "¢": "cent", r"\%": "percent", "%": "percent"}
_EMPTY = (
    frozenset(
        "the a an answer final is are that there therefore thus so hence we have get which value number of total it".split()
    )
    | frozenset(
        "exactly simply just equal equals to given by be must will option choice solution solutions result".split()
    )
    | frozenset("this these ans approximately about only all in as they".split())
)
_NO_NAME = re.compile(r"[\d+*/<>=]|\\(?:frac|sqrt|cdot|times|div|pm|sin|cos|tan|log|ln)")


def read(text: str) -> Answer:
    """The answer that ``text`` is, in the spelling of `math_text.tidy`."""
    text = _bare(text)
    parts = [part for part in _split(_grouped(text), _LINK) if part]
    if len(parts) != 1:
        ranges = _ranges(text, parts)
        if ranges:
            return ranges
        return Listed(tuple(each for part in parts for each in _item(part)))
    items = _item(parts[0])
    return items[0] if len(items) == 1 else Listed(tuple(items))


def _ranges(text: str, parts: list[str]) -> Answer | None:
    """Inequalities that are joined: by "or" a union, else what holds for both."""
    found = [_one(_bare(part)) for part in parts if _SIGN.search(part)]
    ranges = [each for each in found if isinstance(each, Ordered)]
    if len(ranges) != len(parts):
        return None
    if r"\text{or}" in text:
        return Union(tuple(ranges))
    low = [each for each in ranges if each.items[1] == Expression(r"\infty")]
    high = [each for each in ranges if each.items[0] == Expression(r"-\infty")]
    if len(low) == len(high) == 1 and len(ranges) == 2:
        return Ordered(low[0].opening, (low[0].items[0], high[0].items[1]), high[0].closing)
    return None


def readings(text: str) -> list[Answer]:
    """What ``text`` may mean, the likeliest first: ``100,200`` is one number, or two."""
    found = [read(text)]
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+", text):
        found.append(read(text.replace(",", ", ")))
    return found


def equal(one: Answer, other: Answer) -> bool:
    """Whether two answers are the same."""
    if isinstance(one, Relation) or isinstance(other, Relation):
        return _equal_relations(one, other)
    if isinstance(one, Ratio) != isinstance(other, Ratio):
        one, other = (_quotient(each) if isinstance(each, Ratio) else each for each in (one, other))
    if isinstance(one, Matrix) and isinstance(other, Ordered):
        return equal(other, one)
    if isinstance(one, Ordered) and isinstance(other, Matrix):  # a column is a vector, too
        column = tuple(row[0] for row in other.rows if len(row) == 1)
        return len(column) == len(other.rows) and equal(one, Ordered("(", column, ")"))
    if isinstance(one, Expression) and isinstance(other, Expression):
        return math_units.alike(one.units, other.units) and (
            _compact(one.text) == _compact(other.text) or math_expressions.equal(one.text, other.text)
        )
    if isinstance(one, Ordered) and isinstance(other, Ordered):
        return (one.opening, one.closing) == (other.opening, other.closing) and _in_order(one.items, other.items)
    if isinstance(one, Matrix) and isinstance(other, Matrix):
        return len(one.rows) == len(other.rows) and all(map(_in_order, one.rows, other.rows))
    if isinstance(one, Listed | Union) and isinstance(other, Listed | Union):
        return type(one) is type(other) and _in_any_order(one.items, other.items)
    if isinstance(one, Ratio) and isinstance(other, Ratio):
        return _equal_ratios(one, other)
    return one == other


def choice(text: str) -> str | None:
    """The letter of an option, if ``text`` is one, with or without what the option says: ``(C)``, ``C. 12``."""
    found = _CHOICE.fullmatch(_bare(text))
    rest = found[2].strip() if found else ""
    return found[1] if found and not re.match(r"[,;/+*^_=-]|\\text\{(?:and|or)\b|\\c|[(]", rest) else None


def _item(text: str) -> list[Answer]:
    """One part of a list; two answers if it has ``\\pm``."""
    text = _bare(text)
    inside = _inside(text)
    if inside and inside[0] == "{":
        return [_set(inside[1])]
    if r"\pm" in text or r"\mp" in text:
        signs = ((r"\pm", "+", "-"), (r"\mp", "-", "+"))
        both = [text, text]
        for sign, first, second in signs:
            both = [re.sub(rf"\{sign}(?![a-zA-Z])\s*", by, one) for one, by in zip(both, (first, second), strict=True)]
        return [each for one in both for each in _item(one)]
    return [_one(text)]


def _one(text: str) -> Answer:
    if text in (r"\emptyset", r"\{\}", r"\{ \}"):
        return Listed(())
    if text == r"\mathbb{R}":
        return _interval("(", r"-\infty", r"\infty", ")")
    sides = _split(text, _SIGN)
    if len(sides) > 1:
        return _relation([_bare(side) for side in sides], [sign.strip() for sign in _signs(text)])
    parts = _split(text, re.compile(r"\\cup(?![a-zA-Z])"))
    if len(parts) > 1:
        return Union(tuple(_one(_bare(part)) for part in parts))
    missing = re.fullmatch(
        r"(?:\\mathbb\{R\}|\(-\s*\\infty\s*,\s*\\infty\s*\))\s*(?:\\setminus|-)\s*\\\{(.*)\\\}", text
    )
    if missing:
        return _without([part.strip() for part in _split(missing[1], _LINK)])
    matrix = _MATRIX.fullmatch(text)
    if matrix:
        return _matrix(matrix["factor"].strip(), matrix["rows"])
    inside = _inside(text)
    if inside and not _BASE.fullmatch(text):
        opening, content, closing = inside
        parts = _split(content, re.compile(r"[,;]"))
        if len(parts) > 1:
            return Ordered(opening, tuple(_first(part) for part in parts), closing)
        return read(content)
    return _based(text) or _ratio(text) or _leaf(text)


def _first(text: str) -> Answer:
    items = _item(text)
    return items[0] if len(items) == 1 else Listed(tuple(items))


def _bare(text: str) -> str:
    """``text`` without spaces, full stops, quotes and words around it that say nothing."""
    previous = None
    while previous != text:
        previous, text = text, re.sub(r"\s+([.,;:])", r"\1", text).strip().strip('"').strip()
        text = re.sub(r"^[:;,]+|\\$" if text.endswith("...") else r"(?<!\\)[.,;:?]+$|^[:;,]+|\\$", "", text).strip()
        text = text.removeprefix(r"\therefore").strip()
        inside = re.fullmatch(r"\{([^{}]*)\}", text)
        text = inside[1] if inside else text
        text = _named_away(text)
    return text


def _named_away(text: str) -> str:
    """``text`` without "the answer is" before it, or "is the answer" behind it."""
    found = re.match(r"\\text\{([^{}]*)\}\s*[:=]?", text)
    if found and _says_nothing(found[1]):
        return text[found.end() :] or text
    found = re.search(r"\\text\{([^{}]*)\}$", text)
    if found and found.start() and _says_nothing(found[1]) and re.match(r"(?:is|are) ", found[1]):
        return text[: found.start()]
    found = re.search(r"\\text\{([^{}]*\b)?(?:is|are)(?: (?:equal )?(?:to|exactly|simply|just))?\}", text)
    if found and not re.search(r"\b(?:not|no|never|if|when)\b", text[: found.end()]):
        return text[found.end() :].lstrip(": ") or text
    return text


def _says_nothing(words: str) -> bool:
    return all(word in _EMPTY for word in words.lower().split())


def _grouped(text: str) -> str:
    """``text`` without separators of thousands; those within brackets are commas between coordinates."""
    found = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
    return "".join(
        found.sub(lambda number: number[0].replace(",", ""), part) if outside else part
        for outside, part in _levels(text)
    )


def _levels(text: str) -> Iterator[tuple[bool, str]]:
    """The parts of ``text`` outside and inside round, square and curly brackets, in turn."""
    start = depth = 0
    for place, one in enumerate(text):
        if one in "([{" and (depth := depth + 1) == 1:
            yield True, text[start:place]
            start = place
        elif one in ")]}" and depth and (depth := depth - 1) == 0:
            yield False, text[start : place + 1]
            start = place + 1
    yield depth == 0, text[start:]


def _places(text: str, sign: re.Pattern[str]) -> list[re.Match[str]]:
    """Where ``sign`` stands outside of all brackets."""
    outside, place = [], 0
    for free, part in _levels(text):
        if free:
            outside.append((place, place + len(part)))
        place += len(part)
    spans = [(start - (2 if text[max(0, start - 1)] == "}" else 0), end) for start, end in outside]
    found = []
    for match in sign.finditer(text):
        words = match[0].endswith("}")
        start = match.start()
        if any(low <= start < high or (words and low <= start <= high) for low, high in spans):
            found.append(match)
    return found


def _split(text: str, sign: re.Pattern[str]) -> list[str]:
    parts, start = [], 0
    for match in _places(text, sign):
        parts.append(text[start : match.start()].strip())
        start = match.end()
    return [*parts, text[start:].strip()]


def _signs(text: str) -> list[str]:
    return [match[0] for match in _places(text, _SIGN)]


def _inside(text: str) -> tuple[str, str, str] | None:
    """The bracket that opens ``text``, what is in it, and the bracket that closes it, if one pair holds it all."""
    curly = text.startswith(r"\{") and text.endswith(r"\}")
    if not curly and not (text[:1] in ("(", "[") and text[-1:] in (")", "]")):
        return None
    size = 2 if curly else 1
    levels = [part for part in _levels(text) if part[1]]
    whole = len(levels) == 1 or (curly and sum(not outside for outside, _ in levels) == 1)
    return (text[size - 1], text[size:-size].strip(), text[-1]) if whole else None


def _set(content: str) -> Answer:
    builder = re.split(r"\\mid(?![a-zA-Z])|\||:", content, maxsplit=1)
    if len(builder) == 2 and re.fullmatch(r"\s*\\?[a-zA-Z]+\s*(?:\\in\s*\\mathbb\{R\})?\s*", builder[0]):
        return read(builder[1])
    found = read(content) if content else Listed(())
    return found if isinstance(found, Listed) else Listed((found,))


def _interval(opening: str, low: str, high: str, closing: str) -> Ordered:
    return Ordered(opening, (Expression(low), Expression(high)), closing)


def _without(points: Sequence[str]) -> Answer:
    """All real numbers but these."""
    values = [(math_expressions.number(point), point) for point in points]
    if any(value is None or not value.is_real for value, _ in values):
        return Words(" ".join(points))
    ends = [r"-\infty", *(point for _, point in sorted(values, key=lambda each: float(each[0]))), r"\infty"]
    return Union(tuple(_interval("(", low, high, ")") for low, high in zip(ends, ends[1:], strict=False)))


def _matrix(factor: str, content: str) -> Answer:
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", content.replace(r"\hline", "")) if row.strip()]
    factor = re.sub(r"\s*(?:\\cdot|\\times|\*)\s*$", "", factor)
    factor = "-1" if factor == "-" else factor
    cells = [[f"({factor})({cell.strip()})" if factor else cell for cell in row.split("&")] for row in rows]
    return Matrix(tuple(tuple(_first(cell) for cell in row) for row in cells))


def _relation(sides: list[str], signs: list[str]) -> Answer:
    if set(signs) <= {"=", r"\approx", r"\equiv", r"\in"}:
        left, right, sign = sides[0], sides[-1], signs[-1]
        if sign == r"\equiv" or (not left and sign != "="):
            return Relation(sign, left, right, read(right), False)
        if not _is_name(left) and _is_name(right) and sign == "=":
            left, right = right, left
        if not left or all(math_expressions.number(side) is not None for side in (left, right)):
            return read(right)
        return Relation("=", left, right, read(right), _is_name(left))
    bounded = _bounded(sides, signs)
    if bounded:
        return bounded
    if len(signs) == 1:
        left, right, sign = sides[0], sides[1], signs[0]
        if sign in (">", r"\ge"):
            left, right, sign = right, left, _TURNED[sign]
        return Relation(sign, left, right, read(right), False)
    return Words(_compact("".join(side + sign for side, sign in zip(sides, [*signs, ""], strict=True))))


def _bounded(sides: list[str], signs: list[str]) -> Answer | None:
    """Inequalities for one variable as an interval, or two; without a left side they are for any."""
    if len(sides) == 2 and signs[0] in _TURNED:
        name, end, sign = sides[0], sides[1], signs[0]
        if _is_variable(end) and not _is_variable(name):
            name, end, sign = end, name, _TURNED[sign]
        if (name and not _is_variable(name)) or not end or (name and math_expressions.number(end) is None):
            return None
        if sign == r"\ne":
            return _without([end])
        low = sign in (">", r"\ge")
        closed = "[" if sign == r"\ge" else "]" if sign == r"\le" else ""
        return _interval(closed or "(", end, r"\infty", ")") if low else _interval("(", r"-\infty", end, closed or ")")
    if len(sides) == 3 and _is_variable(sides[1]):
        low, high, first, second = sides[0], sides[2], signs[0], signs[1]
        if {first, second} <= {">", r"\ge"}:
            low, high, first, second = high, low, _TURNED[second], _TURNED[first]
        if {first, second} <= {"<", r"\le"}:
            return _interval("(" if first == "<" else "[", low, high, ")" if second == "<" else "]")
    return None


def _is_variable(text: str) -> bool:
    return re.fullmatch(r"[a-zA-Z](?:_\{?\w+\}?)?|\\(?!pi|infty)[a-z]+", text) is not None


def _is_name(text: str) -> bool:
    """Whether a side of an equation only names the other: ``x``, ``f(x)``, ``\\angle ABC``, ``|AB|``, words."""
    text = re.sub(r"_\{[^{}]*\}|'", "", text)
    bare = re.sub(r"\\(?:angle|overline|vec|mathbf|mathbb|mathrm|triangle|hat)(?![a-zA-Z])|[|{}()\s,]", "", text)
    return bool(
        _is_called(text)
        or re.fullmatch(r"[a-zA-Z]|m?[A-Z]+|\\[a-z]+", bare)
        or re.fullmatch(r"\((?:\\?[a-zA-Z]+[,\s]*)+\)", text)
    )


def _is_called(text: str) -> bool:
    """Whether a side is words, or a function of something, of which the name says nothing."""
    return (
        r"\text" in text
        or re.fullmatch(r"(?:[a-zA-Z]|\\(?:mathbb|Pr)\{?[a-zA-Z]*\}?)(?:\^\{-1\})? ?\(.*\)", text) is not None
    )


def _equal_relations(gold: Answer, answer: Answer) -> bool:
    """Two answers of which one is a relation; the reference may leave out no more of one than its name."""
    if not isinstance(gold, Relation):
        quantity = isinstance(answer, Relation) and re.fullmatch(r"[a-zA-Z+\s-]+", answer.left)  # x + y = 27
        return (
            isinstance(answer, Relation)
            and answer.sign == "="
            and bool(answer.named or quantity)
            and equal(gold, answer.value)
        )
    if not isinstance(answer, Relation):
        return gold.sign == "=" and gold.named and equal(gold.value, answer)
    if gold.sign != answer.sign:
        return False
    same_left = _compact(gold.left) == _compact(answer.left)
    if gold.sign == "=" and (same_left or _is_called(gold.left) or _is_called(answer.left)):
        return equal(gold.value, answer.value)
    if same_left and _compact(gold.right) == _compact(answer.right):
        return True
    return math_expressions.proportional((gold.left, gold.right), (answer.left, answer.right), signed=gold.sign != "=")


def _based(text: str) -> Based | None:
    found = _BASE.fullmatch(text)
    if not found:
        return None
    name = found["name"]
    if name and name not in _BASES:
        return None
    base = _BASES.index(name) + 2 if name else int(found["base"] or found["other"] or found["written"])
    digits = found["digits"].replace(" ", "")
    values = [int(one, 36) for one in digits.replace(".", "")]
    fits = values and 2 <= base <= 36 and max(values) < base and (digits[0].isdigit() or base > 10)
    return Based(digits.lstrip("0") or "0", base) if fits else None


def _ratio(text: str) -> Ratio | None:
    value, units = _measured(text)
    parts = [part.strip() for part in value.split(":")]
    return (
        Ratio(tuple(parts), units)
        if len(parts) > 1 and all(re.fullmatch(r"[\w\\{}.^ ]+", part) for part in parts)
        else None
    )


def _quotient(ratio: Ratio) -> Answer:
    if len(ratio.terms) != 2:
        return Words(":".join(ratio.terms))
    return Expression(rf"\frac{{{ratio.terms[0]}}}{{{ratio.terms[1]}}}")


def _equal_ratios(one: Ratio, other: Ratio) -> bool:
    """Equal terms, or multiples of them; those of a time of day have to be equal."""
    if len(one.terms) != len(other.terms) or not math_units.alike(one.units, other.units):
        return False
    if all(map(math_expressions.equal, one.terms, other.terms)):
        return True
    if any(re.fullmatch(r"[0-5]\d", ratio.terms[1]) for ratio in (one, other)):
        return False
    quotients = [[rf"\frac{{{term}}}{{{ratio.terms[0]}}}" for term in ratio.terms[1:]] for ratio in (one, other)]
    return all(map(math_expressions.equal, *quotients))


def _leaf(text: str) -> Answer:
    value, units = _measured(text)
    if not value or r"\text" in value:
        return Words(_spoken(text))
    return Expression(value, units)


def _measured(text: str) -> tuple[str, frozenset[str] | None]:
    """A number or formula without the unit behind it or the currency before it, and the unit."""
    before = re.match(r"([-+]?)\s*(?:(?:\\text\{USD?\}|US)\s*(?:\\\$)?|\\\$|€|£)\s*(?=[-\d.\\(])", text)
    value, tokens = text, []
    while len(tokens) < 9 and (match := _SUFFIX.search(value)):
        tokens.append(match)
        value = value[: match.start()].rstrip()
    words = [word for token in reversed(tokens) for word in _unit_words(token)]
    if before:
        value, words = before[1] + value[before.end() :], [*words, r"\$"]
    if not words:
        return text, None
    if words[0].lower() in math_units.MULTIPLES and re.fullmatch(r"[-+]?[\d.]+", value):
        factor = math_units.MULTIPLES[words.pop(0).lower()]
        value = rf"{value}\cdot {factor}"
        if not words:
            return value, None
    names = {_SYMBOLS[word] for word in words if word in _SYMBOLS}
    spelled = [word for word in words if word not in _SYMBOLS]
    found = math_units.unit(spelled) if spelled else frozenset()
    if found is None or not value:
        return text, None
    return value, frozenset(found | names)


def _unit_words(token: re.Match[str]) -> list[str]:
    words = []
    for found in re.finditer(r"\\text\{([^{}]*)\}|(\\%|%|\\\$|€|£|¢)|(\\circ)", token[0]):
        words += found[1].split() if found[1] else [found[2] or "°"]
    return words


def _spoken(text: str) -> str:
    """Words in small letters, without commands, punctuation and articles."""
    text = re.sub(r"\\text|[{}$\\\"'.,!?]", "", text.replace("-", " "))
    words = text.lower().split()
    return " ".join(word for word in words if word not in ("the", "a", "an") or len(words) == 1)


def _in_order(one: Sequence[Answer], other: Sequence[Answer]) -> bool:
    return len(one) == len(other) and all(map(equal, one, other))


def _in_any_order(one: Sequence[Answer], other: Sequence[Answer]) -> bool:
    return _matched(list(one), list(other), equal)


def _matched(one: list[Answer], other: list[Answer], same: Callable[[Answer, Answer], bool]) -> bool:
    """Whether each of ``one`` has a partner of its own in ``other``."""
    if len(one) != len(other):
        return False
    for each in one:
        partner = next((place for place, candidate in enumerate(other) if same(each, candidate)), None)
        if partner is None:
            return False
        other.pop(partner)
    return True


def _compact(text: str) -> str:
    return re.sub(r"\s+", "", text)


def spelled(answer: Answer) -> str:
    """An answer as a string: alike for those that are written alike, without units, names and words around them."""
    if isinstance(answer, Expression):
        return _spelled_number(_compact(answer.text))
    if isinstance(answer, Words):
        return answer.text
    if isinstance(answer, Based):
        return f"{answer.digits}_{answer.base}"
    if isinstance(answer, Relation):
        right = spelled(answer.value)
        return right if answer.named and answer.sign == "=" else f"{_compact(answer.left)}{answer.sign}{right}"
    if isinstance(answer, Ratio):
        return ":".join(map(_compact, answer.terms))
    if isinstance(answer, Matrix):
        return "[" + ";".join(",".join(map(spelled, row)) for row in answer.rows) + "]"
    inside = ("∪" if isinstance(answer, Union) else ",").join(map(spelled, answer.items))
    return f"{answer.opening}{inside}{answer.closing}" if isinstance(answer, Ordered) else inside or "∅"


def _spelled_number(text: str) -> str:
    text = re.sub(r"(?<![\d.])\.(?=\d)", "0.", text.removeprefix("+"))
    text = re.sub(r"(\.\d*?)0+(?!\d)", r"\1", text)
    text = re.sub(r"\.(?!\d)", "", text)
    return re.sub(r"^(-?)(\d+)/(\d+)$", r"\1\\frac{\2}{\3}", text)
