"""Parse a normalised text to an answer: `parse`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from evaluation.tasks.mathematics import expressions
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
from evaluation.tasks.mathematics.brackets import depths, enclosed, outside, split
from evaluation.tasks.mathematics.normalize import GREEK
from evaluation.tasks.mathematics.units import measured

_LINK = re.compile(r",?\s*\\text\{(?:and|or)\}|[,;]")
_SIGN = re.compile(r"\\(?:ne|le|ge|approx|in|equiv|notin)(?![a-zA-Z])|[=<>]")
_REVERSED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_OPENING = {">": "(", r"\ge": "["}
_CLOSING = {"<": ")", r"\le": "]"}
_MATRIX = re.compile(
    r"(?P<factor>[^&]*?)[(\[]?\s*\\begin\{(?:[pbBV]?|small)(?:matrix|array)\}(?:\{[clr| ]*\})?(?P<rows>.*)"
    r"\\end\{[a-zA-Z]+\}\s*[)\]]?",
    re.DOTALL,
)
_BASE = re.compile(
    r"(?:\(?\{?(?P<digits>[0-9A-Z][0-9A-Z. ]*|[a-f]*\d[0-9a-f]*)\}?\)?)\s*"
    r"(?:_\s*\{?\(?\s*(?P<base>\d+)\s*\)?\}?|_\s*\{?\(?\s*(?:\\text\{)?(?:base )?(?P<name>[a-z]+)\}?\s*\)?\}?|"
    r"_\s*\{\\text\{base\}\s*(?P<other>\d+)\}|\(?\\text\{(?:in )?base\}\s*(?P<written>\d+)\)?|"
    r"\(?\\text\{(?:in )?base (?P<spoken>[a-z]+)\}\)?)"
)
_BASES = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
_CHOICE = re.compile(r"\(?\s*([A-J])\s*(?:\)|[.:])\s*(.*)", re.DOTALL)
_DENIED = re.compile(
    r"\b(?:not|no|never|isn't|aren't|cannot|can't|doesn't|neither|nor|false|wrong|incorrect|if|when|unless|half|twice|"
    r"double|opposite|reciprocal)\b"
)
_OVER = (
    r"\\(?:angle|overline|overrightarrow|overarc|widehat|widetilde|vec|bar|hat|tilde|mathbf|mathbb|mathrm|mathcal|triangle)"
    r"(?![a-zA-Z])"
)
_ASKED = re.compile(
    r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])(?:[^=+()-]|\([^()]*\))*|\\(?:sum|int|prod|lim|det|gcd|lcm)(?![a-z]).*"
)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_FILLER = frozenset(
    """
    the a an answer final is are that there therefore thus so hence we have get which value number of total it exactly
    simply just equal equals to given by be must will option choice solution solutions result this these ans only all
    in as they point points ordered pair triple interval set vector coordinates equation line at
    """.split()
)


def parse(text: str) -> Answer:
    """The answer in ``text``, as `normalize.normalize` spells it."""
    text = re.sub(r"([\[\]])([^\[\]()]*[,;][^\[\]()]*)([\[\]])", _reversed_brackets, _strip(text))
    text = re.sub(r"^<([^<>=]*,[^<>=]*)>$", r"(\1)", text)
    parts = [part for part in split(_grouped(text), _LINK) if part]
    if not parts:
        return Words("")
    if len(parts) != 1:
        ranges = _ranges(text, parts)
        if ranges:
            return ranges
        return Listed(tuple(each for part in parts for each in _item(part)))
    return _as_answer(parts[0])


def _reversed_brackets(match: re.Match[str]) -> str:
    """``]a, b[`` is an open interval."""
    return f"{'(' if match[1] == ']' else '['}{match[2]}{')' if match[3] == '[' else ']'}"


def _ranges(text: str, parts: list[str]) -> Answer | None:
    """Several inequalities: a union if joined by "or", else an intersection."""
    found = [_single(_strip(part)) for part in parts if _SIGN.search(part)]
    ranges = [each for each in found if isinstance(each, Ordered)]
    if len(ranges) != len(parts):
        return None
    if r"\text{or}" in text:
        return Union(tuple(ranges))
    low = [each for each in ranges if each.items[1] == Formula(r"\infty")]
    high = [each for each in ranges if each.items[0] == Formula(r"-\infty")]
    if len(low) == len(high) == 1 and len(ranges) == 2:
        if _is_below(high[0].items[1], low[0].items[0]):
            return Union(tuple(ranges))
        return Ordered(low[0].opening, (low[0].items[0], high[0].items[1]), high[0].closing)
    return None


def _is_below(one: Answer, other: Answer) -> bool:
    """Whether a number is smaller than another."""
    if not isinstance(one, Formula) or not isinstance(other, Formula):
        return False
    first, second = expressions.number(one.text), expressions.number(other.text)
    return first is not None and second is not None and bool((second - first).is_positive)


def interpretations(text: str) -> list[Answer]:
    """Possible meanings, the likeliest first: ``100,200`` and ``1 and 1/2`` are one number, or two."""
    found = [parse(text)]
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+", text):
        found.append(parse(text.replace(",", ", ")))
    mixed = re.fullmatch(r"(-?\d+)\s*\\text\{and\}\s*(\d+/\d+|\\frac\{\d+\}\{\d+\})", text)
    twice = re.fullmatch(r"(.*\S)\s+\((?:\\text\{or\}\s*)?(.+)\)", text)
    if twice:  # 1/2 (or 0.5)
        found.append(parse(rf"{twice[1]} \text{{or}} {twice[2]}"))
    if mixed:
        found.append(parse(f"{mixed[1]} {mixed[2]}"))
    return found


def choice(text: str) -> str | None:
    """The letter of an option, with or without its content: ``(C)``, ``C. 12``; None if ``text`` is none."""
    match = _CHOICE.fullmatch(_strip(text))
    rest = match[2].strip() if match else ""
    denied = _DENIED.search(rest) or re.match(r"[,;/+*^_=-]|\\text\{(?:and|or)\b|\\c|[(]", rest)
    return match[1] if match and not denied else None


def _item(text: str) -> list[Answer]:
    """One item of a list; two answers if it has ``\\pm``."""
    text = _strip(text)
    inside = enclosed(text)
    if inside and inside[0] == "{":
        return [_set(inside[1])]
    if re.search(r"\\(?:pm|mp)(?![a-zA-Z])", text) and not outside(text, _SIGN):
        upper = re.sub(r"\\mp(?![a-zA-Z])\s*", "-", re.sub(r"\\pm(?![a-zA-Z])\s*", "+", text))
        lower = re.sub(r"\\mp(?![a-zA-Z])\s*", "+", re.sub(r"\\pm(?![a-zA-Z])\s*", "-", text))
        return [*_item(upper), *_item(lower)]
    return [_single(text)]


def _single(text: str) -> Answer:
    if text in (r"\emptyset", r"\{\}", r"\{ \}"):
        return Listed(())
    if text in (r"\mathbb{R}", r"\text{all real numbers}", r"\text{all reals}"):
        return _interval("(", r"-\infty", r"\infty", ")")
    sides = split(text, _SIGN)
    if len(sides) > 1:
        return _relation([_strip(side) for side in sides], [match[0] for match in outside(text, _SIGN)])
    parts = split(text, re.compile(r"\\cup(?![a-zA-Z])"))
    if len(parts) > 1:
        return Union(tuple(_single(_strip(part)) for part in parts))
    missing = re.fullmatch(
        r"\\text\{all reals?(?: numbers)?(?: except(?: for)?| but| other than)\}\s*()(.*)|"
        r"(?:\\mathbb\{R\}|\(-\s*\\infty\s*,\s*\\infty\s*\))\s*(?:\\setminus|-)\s*\\\{(.*)\\\}",
        text,
    )
    if missing:
        return _reals_without([part.strip() for part in split(missing[2] or missing[3], _LINK)])
    matrix = _MATRIX.fullmatch(text)
    if matrix:
        return _matrix(matrix["factor"].strip(), matrix["rows"])
    inside = enclosed(text)
    if inside and not _BASE.fullmatch(text):
        opening, content, closing = inside
        parts = split(content, re.compile(r"[,;]"))
        if len(parts) > 1:
            return Ordered(opening, tuple(_as_answer(part) for part in parts), closing)
        return parse(content)
    return _based(text) or _ratio(text) or _formula_or_words(text)


def _as_answer(text: str) -> Answer:
    items = _item(text)
    return items[0] if len(items) == 1 else Listed(tuple(items))


def _strip(text: str) -> str:
    """``text`` without surrounding spaces, full stops, quotes and empty words."""
    previous = None
    while previous != text:
        previous, text = text, re.sub(r"\s+([.,;:])", r"\1", text).strip().strip('"').strip()
        text = re.sub(r"^[:;,]+|\\$" if text.endswith("...") else r"(?<!\\)[.,;:?]+$|^[:;,]+|\\$", "", text).strip()
        text = re.sub(r"^'([^']*)'$", r"\1", re.sub(r"^\\cdot\s+|\{\}$", "", text))
        text = re.sub(r"^\\(?:therefore|implies|Rightarrow|Longrightarrow)(?![a-z])", "", text).strip()
        if text.startswith("{") and 0 not in depths(text)[1:]:
            is_set = re.match(r"\{\s*[a-zA-Z]\s*(?:\\in[^|:]*)?(?:\||:|\\mid)", text)
            text = rf"\{text[:-1]}\}}" if is_set else text[1:-1]
        text = _without_phrase(text)
    return text


def _without_phrase(text: str) -> str:
    """``text`` without a leading "the answer is" or a trailing "is the answer"."""
    match = re.search(r"\\text\{([^{}]*?) (?:is|are) ([^{}]*)\}$", text)
    if match and not match.start() and _is_filler(match[1]):
        return rf"\text{{{match[2]}}}"
    if match and _is_filler(match[2]):
        return rf"{text[: match.start()]}\text{{{match[1]}}}"
    match = re.match(r"\\text\{([^{}]*)\}\s*[:=]?", text)
    if match and _is_filler(match[1]):
        return text[match.end() :] or text
    match = re.search(r"\\text\{([^{}]*)\}$", text)
    if match and match.start() and _is_filler(match[1]) and re.match(r"(?:is|are) ", match[1]):
        return text[: match.start()]
    match = re.search(r"\\text\{([^{}]*\b)?(?:is|are)(?: (?:equal )?(?:to|exactly|simply|just))?\}", text)
    if match and not _DENIED.search(text[: match.end()]):
        return text[match.end() :].lstrip(": ") or text
    return text


def _is_filler(words: str) -> bool:
    return all(word in _FILLER for word in words.lower().split())


def _grouped(text: str) -> str:
    """``text`` without thousands separators; within brackets commas separate coordinates."""
    depth = depths(text)
    return _THOUSANDS.sub(lambda match: match[0] if depth[match.start()] else match[0].replace(",", ""), text)


def _set(content: str) -> Answer:
    builder = re.split(r"\\mid(?![a-zA-Z])|\||:", content, maxsplit=1)
    if len(builder) == 2 and re.fullmatch(r"\s*\\?[a-zA-Z]+\s*(?:\\in\s*\\mathbb\{R\})?\s*", builder[0]):
        return parse(builder[1])
    found = parse(content) if content else Listed(())
    return found if isinstance(found, Listed) else Listed((found,))


def _interval(opening: str, low: str, high: str, closing: str) -> Ordered:
    return Ordered(opening, (Formula(low), Formula(high)), closing)


def _reals_without(points: Sequence[str]) -> Answer:
    """All real numbers except these."""
    values = {point: expressions.number(point) for point in points}
    if not all(value is not None and value.is_real for value in values.values()):
        return Words(" ".join(points))
    ends = [r"-\infty", *sorted(points, key=lambda point: float(str(expressions.numeric(values[point])))), r"\infty"]
    return Union(tuple(_interval("(", low, high, ")") for low, high in pairwise(ends)))


def _matrix(factor: str, content: str) -> Answer:
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", content.replace(r"\hline", "")) if row.strip()]
    factor = re.sub(r"\s*(?:\\cdot|\\times|\*)\s*$", "", factor)
    factor = "-1" if factor == "-" else factor
    cells = [[f"({factor})({cell.strip()})" if factor else cell for cell in row.split("&")] for row in rows]
    return Matrix(tuple(tuple(_as_answer(cell) for cell in row) for row in cells))


def _relation(sides: list[str], signs: list[str]) -> Answer:
    if r"\approx" in signs:  # the side before it is exact unless it is only a name
        place = signs.index(r"\approx")
        if place or expressions.number(sides[0]) is not None:
            ends = [expressions.number(sides[place]), expressions.number(sides[-1])]
            if None not in ends and not _near(*ends):  # 5 ~ 6 is not 5
                return Words(_plain_words(compact("".join(sides))))
            sides, signs = sides[: place + 1], signs[:place]
    if not signs:
        return parse(sides[0])
    if set(signs) <= {"=", r"\approx", r"\equiv", r"\in"}:
        left, right, sign = sides[0], sides[-1], signs[-1]
        if not left and sign == "=":
            return parse(right)
        if _DENIED.search(left):
            return Words(_plain_words(left + sign + right))
        if sign == r"\equiv" or not left:
            return Relation(sign, left, right, parse(right), False)
        if not _is_name(left) and _is_name(right) and sign == "=":
            left, right = right, left
        values = [side for side in sides if expressions.number(side) is not None]
        if any(not expressions.equal(side, values[-1]) for side in values[:-1]):  # x = 27 = 28
            return Words(_plain_words(compact("".join(sides))))
        if all(expressions.number(side) is not None for side in (left, right)):  # 3 * 9 = 27, but not 3 = 27
            return parse(right) if expressions.equal(left, right) else Words(_plain_words(left + sign + right))
        return Relation("=", left, right, parse(right), _is_name(left))
    bounded = _bounded(sides, signs)
    if bounded:
        return bounded
    if len(signs) == 1:
        left, right, sign = sides[0], sides[1], signs[0]
        if sign in (">", r"\ge"):
            left, right, sign = right, left, _REVERSED[sign]
        return Relation(sign, left, right, parse(right), False)
    return Words(compact("".join(side + sign for side, sign in zip(sides, [*signs, ""], strict=True))))


def _near(one: Any, other: Any) -> bool:
    """Whether two numbers agree within five percent."""
    first, second = expressions.numeric(one, 15), expressions.numeric(other, 15)
    return bool(abs(first - second) <= 0.05 * abs(first))


def _bounded(sides: list[str], signs: list[str]) -> Answer | None:
    """Inequalities in one variable as an interval, or two; the variable may be omitted."""
    if len(sides) == 2:
        name, end, sign = sides[0], sides[1], signs[0]
        if _is_variable(end) and not _is_variable(name):
            name, end, sign = end, name, _REVERSED.get(sign, sign)
        if not end or (name and (not _is_variable(name) or expressions.number(end) is None)):
            return None
        below, above = (
            _interval("(", r"-\infty", end, _CLOSING.get(sign, "")),
            _interval(_OPENING.get(sign, ""), end, r"\infty", ")"),
        )
        return _reals_without([end]) if sign == r"\ne" else below if below.closing else above if above.opening else None
    if len(sides) == 3 and _is_variable(sides[1]):
        (low, _, high), (first, second) = sides, signs
        if first in _OPENING:
            low, high, first, second = high, low, _REVERSED[second], _REVERSED[first]
        if first in _CLOSING and second in _CLOSING:
            return _interval(_OPENING[_REVERSED[first]], low, high, _CLOSING[second])
    return None


def _is_variable(text: str) -> bool:
    return re.fullmatch(r"[a-zA-Z](?:_\{?\w+\}?)?|\\(?!pi|infty)[a-z]+", text) is not None


def _is_name(text: str) -> bool:
    """Whether a side of an equation only names the other: ``x``, ``f(x)``, ``\\angle ABC``, ``|AB|``, words.

    Expressions of geometry or analysis count as names of what was asked for: ``\\cos A``, ``\\frac{AB}{CD}``,
    ``\\sum_{k=1}^9 k``.
    """
    text = re.sub(r"_\{[^{}]*\}|'|(?<=[A-Z}])\s*\^\{(?:-1|T)\}", "", text)
    bare = re.sub(rf"{_OVER}|\\\||[|{{}}()\s,]", "", text)
    quotient = re.fullmatch(r"\\frac\{([a-zA-Z]+)\}\{([a-zA-Z]+)\}", text)
    return bool(
        is_called(text)
        or re.fullmatch(rf"[a-zA-Z]|m?[A-Z]+|\[[A-Z]{{3,}}\]|\\(?:{'|'.join(sorted(GREEK))}|ell)", bare)
        or re.fullmatch(r"[a-zA-Z]\\(?:times|cdot|cup|cap)[a-zA-Z]", bare)
        or re.fullmatch(r"\((?:\\?[a-zA-Z]+[,\s]*)+\)", text)
        or _ASKED.fullmatch(text)
        or (quotient and quotient[1] != quotient[2])
    )


def is_called(text: str) -> bool:
    """Whether a side is words or a function application, whose name does not matter; ``x(x + 1)`` is a product."""
    if r"\text" in text:
        return True
    match = re.fullmatch(r"([a-zA-Z]|\\(?:mathbb|Pr)\{?[a-zA-Z]*\}?)(?:\^\{-1\})? ?[(\[](.*)[)\]]", text)
    return match is not None and not re.search(rf"(?<![\\a-z]){re.escape(match[1])}(?![a-z(])", match[2])


def _based(text: str) -> Answer | None:
    match = _BASE.fullmatch(text)
    if not match:
        return None
    name = match["name"] or match["spoken"]
    if name and name not in _BASES:
        return None
    base = _BASES.index(name) + 2 if name else int(match["base"] or match["other"] or match["written"])
    digits = match["digits"].replace(" ", "").upper()
    values = [int(digit, 36) for digit in digits.replace(".", "")]
    fits = values and 2 <= base <= 36 and max(values) < base and (digits[0].isdigit() or base > 10)
    digits = digits.lstrip("0") or "0"
    return None if not fits else Formula(digits) if base == 10 else Based(digits, base)


def _ratio(text: str) -> Ratio | None:
    value, units = measured(text)
    parts = [part.strip() for part in value.split(":")]
    is_ratio = len(parts) > 1 and all(re.fullmatch(r"[\w\\{}.^ ]+", part) for part in parts)
    return Ratio(tuple(parts), units) if is_ratio else None


def _formula_or_words(text: str) -> Answer:
    value, units = measured(text)
    if not value or r"\text" in value:
        return Words(_plain_words(text))
    return Formula(value, units)


def _plain_words(text: str) -> str:
    """Words in lower case, without commands, punctuation, hyphens and articles."""
    text = re.sub(r"\\text|[{}$\\\"'.,!?]", "", text)
    words = re.sub(r"(?<=\w)\s*-\s*(?=\w)", " ", text).lower().split()
    return " ".join(word for word in words if word not in ("the", "a", "an") or len(words) == 1)
