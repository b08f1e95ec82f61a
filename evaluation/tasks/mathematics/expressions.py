"""Expressions without words: parse them with math-verify's parser, compare them exactly or at fifty digits.

The parser returns an unevaluated tree. It is evaluated here, from the leaves up: a tower of powers is refused before it
takes memory.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy

MAX_CHARACTERS = 400
"""Of an expression; the longest answer of MATH-500 has 53."""

_MAX_DEPTH = 7  # of brackets: the parser takes 1.5 times as long for each
_MAX_BITS = 20_000  # of an exact number
_MAX_FACTORIAL = 1000  # its argument
_MAX_MAGNITUDE_BITS = 1_000_000  # of an inexact number
_DIGITS = 50  # of an inexact comparison
_MAX_DIGITS = 3000  # of an inexact comparison of large numbers
_TOLERANCE = sympy.Rational(1, 10**30)  # relative
_SAMPLES = 3  # values for each variable
_LETTERS = ConversionConfig(lowercase_symbols=False)  # R and r differ
_PLAIN = r"(?:[\d./ -]|\\frac\{\d+\}\{\d+\})+"  # a number
_ARGUMENT = r"\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
_BINOMIAL = re.compile(rf"\\binom{_ARGUMENT}{_ARGUMENT}")  # the parser would evaluate it, however large
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?|\\frac\{(-?\d+)\}\{0*([1-9]\d*)\}")
_Values = Mapping[str, sympy.Expr]


class NotReadError(Exception):
    """This is no expression, or one that is too large to evaluate."""


def equal(one: str, other: str) -> bool:
    """Whether two expressions agree for all positive values of their variables, or for all real ones.

    Expressions are spelled as by `normalize.normalize`; one that can't be parsed equals none. A decimal of at least six
    significant digits equals a number without a finite decimal that rounds to it.
    """
    try:
        first, second = tree(one), tree(other)
        if not _names(first) and not _names(second):
            return _same_number(evaluate(first, {}), evaluate(second, {}), one, other)
        return any(
            all(
                _same_number(evaluate(first, values, absolute), evaluate(second, values, absolute))
                for values in _samples(_names(first) | _names(second), real)
            )
            for real, absolute in ((False, False), (True, True))
        )
    except NotReadError:
        return False


def proportional(one: tuple[str, str], other: tuple[str, str], signed: bool = False) -> bool:
    """Whether two relations, each its left and right side, are equivalent: their differences are proportional.

    If ``signed``, the factor must be positive, as for inequalities; otherwise denominators are ignored.
    """
    try:
        first, second = _difference(*one, signed), _difference(*other, signed)
        ratios = []
        for values in _samples(_names(first) | _names(second), real=True):
            upper, lower = evaluate(first, values), evaluate(second, values)
            if upper == 0 or lower == 0:
                return False
            ratios.append(_finite(upper / lower))
        return all(_close(ratio, ratios[0]) for ratio in ratios) and (not signed or bool(ratios[0] > 0))
    except (NotReadError, TypeError):
        return False


def number(text: str) -> sympy.Expr | None:
    """The value of an expression; None if it has variables or can't be parsed."""
    try:
        found = tree(text)
        value = evaluate(found, {})
        return value if value.is_number else None
    except NotReadError:
        return None


@lru_cache(maxsize=4096)
def tree(text: str) -> sympy.Expr:
    """Parse an expression without evaluating it; decimals become fractions, i and e the constants.

    Raises:
        NotReadError: it has words or unknown commands, or is too long or too deep.
    """
    text = _spelled(_unnested(text))
    commas = "" if re.search(r"\\(?:max|min|gcd|lcm)(?![a-z])", text) else ","
    foreign = (
        rf"\\text|\\\\|\\begin|\d\s+[\d.]|[\d)]\s*_|\^\{{T\}}|\\Pi(?![a-z])|"
        rf"[=<>;:'\"?@#&{commas}]|\\(?:int|sum|prod|lim)"
    )
    if not text or len(text) > MAX_CHARACTERS or re.search(foreign, text):
        raise NotReadError
    plain = _NUMBER.fullmatch(text)
    if plain:  # most answers; the parser takes ten milliseconds
        return sympy.Rational(plain[0] if plain[1] is None else f"{plain[1]}/{plain[2]}")
    if _depth(text) > _MAX_DEPTH:
        raise NotReadError
    try:
        found = latex2sympy(text, conversion_config=_LETTERS, normalization_config=None)
    except (Exception, RecursionError) as error:
        raise NotReadError from error
    if not isinstance(found, sympy.Expr):
        raise NotReadError
    return found


def evaluate(node: Any, values: _Values, absolute: bool = True) -> sympy.Expr:
    """The value of a tree.

    Args:
        node: a tree or subtree.
        values: numbers for variables; variables without one stay.
        absolute: evaluate absolute values; otherwise each is an arbitrary number, so that |x| is not x.

    Raises:
        NotReadError: an unsupported operation, or a number that is too large.
    """
    if isinstance(node, sympy.Float):
        return sympy.Rational(str(node))
    if isinstance(node, sympy.Symbol):
        return sympy.I if node.name == "i" else values.get(node.name, node)
    if isinstance(node, sympy.Number | sympy.NumberSymbol) or node in (sympy.I, sympy.zoo):
        return node
    if isinstance(node, sympy.core.function.AppliedUndef) or (isinstance(node, sympy.Abs) and not absolute):
        inside = sympy.sstr(node)
        return _sample(inside, 0) if values else sympy.Symbol(inside)
    parts = [evaluate(part, values, absolute) for part in node.args]
    if isinstance(node, sympy.Pow | sympy.exp):
        return _finite(_power(*(parts if isinstance(node, sympy.Pow) else (sympy.E, *parts))))
    if isinstance(node, sympy.factorial):
        if parts[0].is_number and not abs(numeric(parts[0], 5)) <= _MAX_FACTORIAL:
            raise NotReadError
        return _finite(sympy.gamma(parts[0] + 1))
    if isinstance(node, sympy.UnevaluatedExpr):
        return parts[0]
    if isinstance(node, _EVALUATED):
        return _finite(node.func(*parts))
    raise NotReadError


_EVALUATED = (
    *(sympy.Add, sympy.Mul, sympy.log, sympy.Abs, sympy.floor, sympy.ceiling, sympy.Max, sympy.Min, sympy.Mod),
    *(sympy.sin, sympy.cos, sympy.tan, sympy.cot, sympy.sec, sympy.csc, sympy.asin, sympy.acos, sympy.atan, sympy.acot),
    *(sympy.sinh, sympy.cosh, sympy.tanh, sympy.asinh, sympy.acosh, sympy.atanh, sympy.re, sympy.im),
    sympy.conjugate,
)


def _power(base: sympy.Expr, exponent: sympy.Expr) -> sympy.Expr:
    if base.is_number and exponent.is_number:
        size = abs(numeric(exponent, 5)) * abs(numeric(sympy.log(abs(numeric(base, 5)) + 2, 2), 5))
        exact = base.is_Rational and exponent.is_Integer
        bits = max(_bits(base), 1) * abs(exponent) if exact else size
        if bits > (_MAX_BITS if exact else _MAX_MAGNITUDE_BITS):
            raise NotReadError
    if base.is_negative and exponent.is_Rational and exponent.q > 1 and exponent.q % 2:
        return (-1) ** exponent.p * sympy.Pow(-base, exponent)  # the real root
    return sympy.Pow(base, exponent)


def _bits(value: sympy.Expr) -> int:
    return max(int(value.p).bit_length(), int(value.q).bit_length()) if value.is_Rational else 0


def _finite(value: sympy.Expr) -> sympy.Expr:
    if value is sympy.nan or value is sympy.zoo or _bits(value) > _MAX_BITS:
        raise NotReadError
    return value


def numeric(value: sympy.Expr, digits: int = _DIGITS) -> sympy.Expr:
    """A number to this many digits.

    Raises:
        NotReadError: it is not a number.
    """
    try:
        found = sympy.N(value, digits)
    except (ArithmeticError, ValueError, TypeError, AttributeError) as error:
        raise NotReadError from error
    if not found.is_number or found is sympy.nan or found is sympy.zoo:
        raise NotReadError
    return found


def _same_number(one: sympy.Expr, other: sympy.Expr, written: str = "", beside: str = "") -> bool:
    if one == other:
        return True
    if one.is_infinite or other.is_infinite:
        return False
    if one.is_Rational and other.is_Rational:
        return _rounded(one, other, written, beside)
    return _close(one, other) or _rounded(one, other, written, beside)


def _close(one: sympy.Expr, other: sympy.Expr) -> bool:
    """Whether two numbers agree to thirty digits, and to thirty decimal places if they are large.

    The scale is that of the terms, since these may cancel.
    """
    difference = one - other
    if difference.is_Rational:
        return bool(difference == 0)
    terms = (*sympy.Add.make_args(one), *sympy.Add.make_args(other))
    scale = max(abs(numeric(term, 15)) for term in terms)
    digits = _DIGITS + max(0, int(sympy.log(scale + 1, 10).n(5)))
    if digits > _MAX_DIGITS:
        raise NotReadError
    return bool(abs(numeric(numeric(one, digits) - numeric(other, digits), 15)) <= _TOLERANCE * min(1, scale))


def _rounded(one: sympy.Expr, other: sympy.Expr, written: str, beside: str) -> bool:
    """Whether one is a decimal of at least six digits, and the other is no decimal and rounds to it."""
    for decimal, text, value, exact in ((one, written, other, beside), (other, beside, one, written)):
        match = re.fullmatch(r"-?0*(\d*)\.(\d+)", text)
        if not match or len((match[1] + match[2]).lstrip("0")) < 6 or re.fullmatch(r"[\d.-]*", exact):
            continue
        if value.is_Rational and _terminates(int(value.q)):
            continue
        near = numeric(value, 15 + len(text))
        return bool(near.is_real and abs(near - decimal) <= sympy.Rational(1, 2 * 10 ** len(match[2])))
    return False


def _terminates(denominator: int) -> bool:
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def _difference(left: str, right: str, signed: bool) -> sympy.Expr:
    found = evaluate(tree(left), {}) - evaluate(tree(right), {})
    return found if signed else sympy.fraction(sympy.together(found))[0]


def _names(node: sympy.Expr) -> frozenset[str]:
    return frozenset({symbol.name for symbol in node.free_symbols} - {"i"})


def _samples(names: frozenset[str], real: bool) -> list[dict[str, sympy.Expr]]:
    """Numbers for variables, the same at each call; some are negative if ``real``."""
    signs: list[Callable[[int], int]] = [lambda place: 1, lambda place: -1 if place % 2 else 1, lambda place: -1]
    return [
        {name: _sample(name, turn) * (signs[turn](place) if real else 1) for place, name in enumerate(sorted(names))}
        for turn in range(_SAMPLES)
    ]


def _sample(name: str, turn: int) -> sympy.Expr:
    spread = zlib.crc32(f"{turn} {name}".encode())
    return sympy.Rational(spread % 8999 + 17, (1009, 9973, 4001)[turn])


def _unnested(text: str) -> str:
    """``text`` without brackets that enclose another pair of brackets only, or the whole text."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    for place, char in enumerate(text):
        if char in "({":
            opened.append(place)
        elif char in ")}":
            if not opened or text[opened[-1]] + char not in ("()", "{}"):
                raise NotReadError
            closing[opened.pop()] = place
    if opened:
        raise NotReadError
    gone = {
        place
        for start, end in closing.items()
        if closing.get(start + 1) == end - 1 or (start == 0 and end == len(text) - 1)
        for place in (start, end)
        if text[start] == "(" or text[start + 1 : start + 2] == "{"
    }
    return "".join(char for place, char in enumerate(text) if place not in gone)


def _depth(text: str) -> int:
    deepest, depth = text.count("|") // 2, 0
    for char in text:
        depth += (char in "({[") - (char in ")}]")
        deepest = max(deepest, depth)
    return deepest


def _spelled(text: str) -> str:
    """``text`` for the parser: mixed numbers, repeating decimals, powers of ten, no leading plus."""
    text = re.sub(r"(\d+(?:\.\d+)?)\s*\^\{\s*\\circ\s*\}", r"\\frac{\1\\pi}{180}", text)
    text = re.sub(r"(\d*)\.(\d*)\\(?:overline|bar|dot)\{(\d+)\}(?!\d)", _repeating, text)
    text = re.sub(r"(\d*)\.(\d*)\((\d+)\)(?!\d)", _repeating, text)
    text = re.sub(r"(\d*)\.(\d*?)(\d{3,}?)\3+\.\.\.$|(\d*)\.(\d*?)(\d{1,2})\6\6+\.\.\.$", _continued, text)
    text = re.sub(r"(?<![\d.}])(\d+) (\d+)/(\d+)(?![\d.])", r"\1\\frac{\2}{\3}", text)
    text = re.sub(r"(?<![\w.}/)])(\d+) ?/ ?(\d+)(?![\w./(\\{])", r"\\frac{\1}{\2}", text)  # 1/2 x
    text = re.sub(r"(?<![\d.])(\d+) ?\\frac\{(\d+)\}\{(\d+)\}", _mixed, text)
    # without a sign the parser takes such products for mixed numbers: 2(3) would be 5
    text = re.sub(rf"(?<=\d)(?= ?\({_PLAIN}\)| ?\\frac)|(?<=\))(?= ?\({_PLAIN}\)| ?[\d.]| ?\\frac)", r"\\cdot ", text)
    for _ in range(text.count(r"\binom")):
        text = _BINOMIAL.sub(r"\\frac{(\1)!}{(\2)!((\1)-(\2))!}", text, count=1)
    text = re.sub(r"(?<=\d)\s*[xX*]\s*10\s*(?=\^)", r"\\cdot 10", text)
    text = re.sub(r"(?<![\w}])(\d+(?:\.\d+)?|\.\d+)[eE]([+-]?\d+)(?!\w)", r"\1\\cdot 10^{\2}", text)
    text = re.sub(r"(?<![\d.])\.(?=\d)", "0.", re.sub(r"(?<=\d)\.(?!\d)", "", text))
    return re.sub(r"\^\{\+", "^{", text.strip().removeprefix("+")).strip()


def _mixed(match: re.Match[str]) -> str:
    whole, upper, lower = map(int, match.groups())
    return rf"\frac{{{whole * lower + upper}}}{{{lower}}}" if upper < lower else match[0]


def _repeating(match: re.Match[str]) -> str:
    return _fraction(match[1], match[2], match[3])


def _continued(match: re.Match[str]) -> str:
    whole, before, period = match.groups()[:3] if match[3] else match.groups()[3:]
    return _fraction(whole, before, period)


def _fraction(whole: str, before: str, period: str) -> str:
    upper = int(f"{whole or 0}{before}{period}") - int(f"{whole or 0}{before}")
    return rf"\frac{{{upper}}}{{{int('9' * len(period)) * 10 ** len(before)}}}"
