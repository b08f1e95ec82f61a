r"""Units of measure and names of counted things, which may follow a number without changing its value.

A unit is one of a list, or an everyday plural ("apples"); words with a value of their own (million, half, minus) are
not.
"""

from __future__ import annotations

import re

_NAMES = """
meter: m metre; centimeter: cm centimetre; millimeter: mm millimetre; kilometer: km kilometre; decimeter: dm decimetre
inch: in inches "; foot: ft feet; yard: yd; mile: mi; nautical-mile: nmi; micrometer: micron; nanometer: nm
liter: l litre; milliliter: ml millilitre; gallon: gal; quart: qt; pint: pt; cup; teaspoon: tsp; tablespoon: tbsp
gram: g gramme; kilogram: kg kilo; milligram: mg; ton: tonne; pound: lb lbs; ounce: oz; stone
second: s sec; minute: min mins; hour: h hr hrs; day; week; month; year: yr yrs; decade; century: centuries
millisecond: ms; o'clock: oclock; am: a.m. a.m; pm: p.m. p.m
degree: deg °; celsius; fahrenheit; kelvin; radian: rad; percent: percentage pct; point: pts
dollar: usd bucks; cent:  pennies penny; euro: eur; pound-sterling: gbp; rupee: rs; yen; nickel; dime; coin
newton: n; joule: j; watt: w; kilowatt: kw; volt: v; ohm; hertz: hz; pascal: pa; calorie: cal; kilocalorie: kcal
acre; hectare: ha; bit; byte; digit; unit: u; knot; mole: mol; rpm; bpm; fps
kilowatt*hour: kwh; megabyte: mb; gigabyte: gb; foot*pound: ft-lb; mile*hour: mph; kilometer*hour: kph kmh kmph
"""
_COUNTED = """
apple ball base book box boy bushel car card case chair child children color combination cookie cow crayon cube customer
diagonal dog edge element event face factor fish flower function game girl goal group handshake head integer item kid
letter line man marble match member men multiple number object orange outcome page pair parent path pen pencil people
person piece place player possibility prime problem question rectangle root row seat sheep side solution song stamp step
sticker student subset sum symbol task team term ticket tile toy tree triangle trip value vertex vertices vote way woman
women worker altogether total old each apiece
"""
_SHAPES = frozenset("square sq squared cubic cu cubed per".split())
_VALUES = frozenset(
    """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety tens hundred hundreds thousand thousands
    million millions billion billions trillion trillions dozen dozens half halves third thirds quarter quarters fourths
    fifth fifths sixths sevenths eighths ninths tenths hundredths thousandths score once twice thrice times plus minus
    less more greater fewer over under divided by multiplied of and or not nor no is isn't are aren't equals than least
    most between from to until without except choose mod modulo power root sqrt cos abs factorial
    infinity pi tau squares cubes logs sine sines cosine cosines tangent tangents logarithm logarithms inverse inverses
    gross minuses score scores lakh lakhs crore crores myriad myriads googol googols exponent exponents is was has
    does this thus its else always unless others series versus
    """.split()
)
_PARTS = re.compile(r"(?:eleven|twelf|teen|tie|dred|sand|illion)ths?$|illiard|illions?$")
"""Further fractions and large numbers in words: twentieths, quadrillions."""
MULTIPLES = {
    "dozen": "12",
    "hundred": "100",
    "thousand": "1000",
    "million": "1000000",
    "billion": "1000000000",
    "trillion": "1000000000000",
}
"""Words that multiply the number before them."""

LETTERS = frozenset("m s g h l L N J W V".split())
"""Single letters that are units if written upright, in ``\\text`` or ``\\mathrm``."""


def _table() -> dict[str, str]:
    table: dict[str, str] = {}
    for entry in _NAMES.replace("\n", ";").split(";"):
        name, _, spellings = entry.partition(":")
        for spelling in [name.strip(), *spellings.split()]:
            table[spelling] = name.strip()
            if len(spelling) > 2 and spelling.isalpha():
                table[spelling + "s"] = table[spelling + "es"] = name.strip()
    table.pop("", None)
    return table


_UNITS = _table()
_THINGS = frozenset(_COUNTED.split())
_SYMBOLS = {
    r"\$": "dollar",
    "€": "euro",
    "£": "pound-sterling",
    "¥": "yen",
    "₹": "rupee",
    "¢": "cent",
    r"\%": "percent",
    "%": "percent",
}
_CURRENCY = re.compile(r"([-+]?)\s*(?:\\text\{USD?\}\s*(?:\\\$)?|\\\$|[€£¥₹])\s*(?=[-\d.\\(])")
_WORDS = r"\\text\{[^{}]*\}"
_LAST = re.compile(
    rf"(?:{_WORDS}|\\%|%|\\\$|€|£|¢|\^\{{\s*\\circ\s*\}})\s*(?:\^\{{?-?\d\}}?)?\s*$|"
    rf"\\frac\{{\s*{_WORDS}[^{{}}]*\}}\{{\s*(?:{_WORDS}|[smh])(?:\^\{{?\d\}}?)?\s*\}}\s*$|"
    r"(?<=\})\s*(?:/|\\cdot)\s*$"
)
"""The last piece of a unit: words or a symbol with an exponent, a quotient of words, or an operator between them."""


def known(word: str) -> bool:
    """Whether a word of two letters or more is a unit in plain text, too (``5cm``, ``5 in``)."""
    return len(word) > 1 and (word.lower() in _UNITS or word.lower() in _SHAPES)


def measured(text: str) -> tuple[str, frozenset[str]]:
    """Split a normalised text into a number or formula and the unit behind it or the currency before it.

    Returns:
        The number or formula, multiplied if a word like million follows, and the names of the units, empty for counted
        things. If some word is no unit, the text as it is.
    """
    value = text
    words: list[str] = []
    while len(words) < 9 and (last := _LAST.search(value)):
        words = _words(last[0]) + words
        value = value[: last.start()].rstrip()
    currency = _CURRENCY.match(value)
    if currency:
        value, words = currency[1] + value[currency.end() :], [*words, r"\$"]
    if words and words[0].lower() in MULTIPLES and re.fullmatch(r"[-+]?[\d.]+", value):
        value = rf"{value}\cdot {MULTIPLES[words.pop(0).lower()]}"
    names = _names(words)
    no_value = re.search(r"^[aA]?$|[-+*/^_(]$|\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])", value)  # or sine of degrees
    return (text, frozenset()) if names is None or no_value else (value, names)


def alike(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether numbers with these units can be equal: a unit may be omitted, but not differ."""
    return one <= other or other <= one


def _words(piece: str) -> list[str]:
    words: list[str] = []
    for match in re.finditer(r"\\text\{([^{}]*)\}|(\\%|%|\\\$|€|£|¢)|\\circ", piece):
        words += match[1].split() if match[1] is not None else [match[2] or "°"]
    return words


def _names(words: list[str]) -> frozenset[str] | None:
    """The units of these words, without exponents; None if a word is no unit, or nothing is measured."""
    names = set()
    measures = not words
    for place, word in enumerate(words):
        lower = word.lower() if word.lower() in _UNITS else word.lower().strip(".")
        last = place == len(words) - 1
        if word in _SYMBOLS:
            names.add(_SYMBOLS[word])
            measures = True
        elif word in ("C", "F") and place and words[place - 1].lower() in ("degree", "degrees", "°"):
            names.add({"C": "celsius", "F": "fahrenheit"}[word])
        elif lower in _UNITS and (len(word) > 1 or word in LETTERS or word in '"°'):
            names.update(_UNITS[lower].split("*"))
            measures = True
        elif lower in _SHAPES:
            continue
        elif lower in _VALUES or _PARTS.search(lower) or not re.fullmatch(r"[^\W\d_]{2,}(?:[-'][^\W\d_]+)*", lower):
            return None
        elif lower in _THINGS or lower.endswith("s"):
            measures = True
        elif last or len(lower) < 3:  # the counted thing comes last, after words like "different"
            return None
    return frozenset(names) if measures else None
