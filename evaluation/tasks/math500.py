r"""MATH-500: the final answer of a solution, and whether it is the same as the reference.

Two metrics, named as in lm-eval's ``minerva_math500``: ``math_verify`` compares as mathematics (``1/2`` is ``0.5``),
reading formulas with the library of that name, ``exact_match`` compares normalised strings.
"""

from __future__ import annotations

import re
from typing import Any

from cache_zoo.time_limit import cpu_time_limit
from evaluation.tasks.fenced import without_thoughts
from evaluation.tasks.mathematics.comparing import equal
from evaluation.tasks.mathematics.kinds import spelled
from evaluation.tasks.mathematics.reading import choice, read, readings
from evaluation.tasks.mathematics.text import tidy

SECONDS = 5
"""Limit of one comparison, in seconds of the processor. Real ones take milliseconds. The limit is a signal, which
needs the main thread; without it the bounds on length, depth and size hold alone."""

LONGEST = 1000
"""Characters of the longest text that is taken for an answer; the longest answer of MATH-500 has 53."""

_IS = r"\s(?:is|are|(?:would|should|must|will)\sbe)\b"
_PHRASE = re.compile(
    rf"(?i)final\s{{1,3}}answer(?:[^.\n$\d]{{0,60}}?{_IS}|\s{{0,3}}[*_]{{0,3}}\s{{0,3}}(?:[:=\n\u2192]|[-\u2013]\s|\*\*))[\s*_:]{{0,12}}"
)
_ANSWER = re.compile(
    rf"(?i)\b(?:answer|(?:correct|right)\s(?:option|choice))(?:[^.\n$\d]{{0,40}}?{_IS}|\s{{0,3}}[*_]{{0,3}}\s{{0,3}}(?:[:=]|[-\u2013]\s))[\s*_:]{{0,12}}"
)
_STOP = re.compile(r"\.(?=[\s*_\"”)]|$)|\n|<\|")
_FORMULA = re.compile(
    r"\$\$(.{1,1000}?)\$\$|(?<!\\)\$((?:[^$\\]|\\.){1,1000})\$|\\\((.{1,1000}?)\\\)|\\\[(.{1,1000}?)\\\]", re.DOTALL
)
_PROSE = re.compile(
    r"(?<![\\A-Za-z\d])(?!(?:and|sin|cos|tan|cot|sec|csc|log|sqrt|[a-z]+illions?|hundreds?|thousands?|dozens?)\b)"
    r"(?:[A-Za-z]{3,}|(?i:an|as|at|be|by|cm|do|ft|he|if|in|is|it|kg|km|me|mm|my|no|of|on|so|to|up|us|we)\b)(?:'[a-z]+)?"
    r"|\b[aAI]\b(?=\s[A-Za-z]{2})|(?:[.?;:]|(?<![\d)])!)(?=\s|$)|\n"
)
"""What a formula in plain writing does not go on over: words, and the end of a sentence."""
_DENIED = re.compile(
    r"(?i)(?:\b(?:not|never|cannot|than|least|most|about|approximately|roughly|nearly|almost|around|over|under|between)"
    r"|n't)(?:\s+be)?\W*$"
)
_TAG = re.compile(
    r"</?[a-zA-Z]+>|(?<![\w\\}])\((?=[^()]*(?<![\\A-Za-z])[A-Za-z]{3,}\s)[^()]*\)|(?i:\\?\b(?:boxed|fbox|framebox)(?![a-z])\s{0,9})"
)
_MOST = 30  # boxes that are one answer
_NEAR = 60  # characters at most between two boxes that are one answer
_BRACES = re.compile(r"\\(?:boxed|fbox|framebox)\s{0,9}\{|\\.|[{}]", re.DOTALL)


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Both metrics of one generation, as lm-eval asks for them."""
    text, gold = without_thoughts(results[0]), doc["answer"]
    answer = final_answer(text)
    if answer is None:
        last = _last(text[-LONGEST:])
        return {"math_verify": float(last is not None and same(gold, last)), "exact_match": 0.0}
    right = same(gold, answer)
    return {"math_verify": float(right), "exact_match": float(right and normal(answer) == normal(gold))}


def final_answer(text: str) -> str | None:
    r"""The last ``\boxed{...}``, else what follows "final answer is"; None without either.

    Boxes that are joined by nothing but a comma, "and" or "or" are one answer; of those that are the same, the last.
    """
    boxes = [box for box in _boxes(text) if text[box[1] : box[2]].strip()]
    if boxes:
        return _together(text, boxes, 1)
    phrases = [found.end() for found in _PHRASE.finditer(text)]
    return _sentence(text[phrases[-1] : phrases[-1] + LONGEST]) if phrases else None


def _together(text: str, places: list[tuple[int, int, int]], width: int) -> str:
    """The last of these places, with those before it that are one answer with it.

    Args:
        text: the whole.
        places: where each begins, where what it holds does, and where that ends.
        width: of what closes one.
    """
    start, first, last = places[-1]
    answers = [text[first:last].strip()]
    for begin, first, last in reversed(places[-_MOST:-1]):
        if start - last > _NEAR or not _linked(text[last + width : start]):
            break
        one, start = text[first:last].strip(), begin
        if not any(same(one, other) for other in answers):
            answers.insert(0, one)
    return ", ".join(answers)


def same(gold: str, answer: str) -> bool:
    """Whether ``answer`` is as good as ``gold``; one that is too long, or takes too long, is not."""
    if max(len(gold), len(answer)) > LONGEST:
        return False
    try:
        with cpu_time_limit(SECONDS, _OutOfTime()):
            return _same(tidy(gold), tidy(answer))
    except (Exception, _OutOfTime):  # an answer may be any text at all, and what can't be read is wrong
        return False


def normal(answer: str) -> str:
    """One spelling for answers that are written alike; empty for one that is too long."""
    try:
        return spelled(read(tidy(answer))) if len(answer) <= LONGEST else ""
    except Exception:  # as above
        return ""


def _same(gold: str, answer: str) -> bool:
    if not gold or not answer:
        return False
    option = _option(gold) or (gold if re.fullmatch("[A-J]", gold) else None)
    if option and _option(answer) == option:
        return True
    first, *others = readings(gold)
    return any(equal(first, one) for one in readings(answer)) or any(equal(one, read(answer)) for one in others)


def _option(text: str) -> str | None:
    return text[1].upper() if re.fullmatch(r"\([a-j]\)", text) else choice(text)


def _boxes(text: str) -> list[tuple[int, int, int]]:
    r"""``\boxed{...}`` and ``\fbox{...}`` that are in no other: where each and its inside starts, and the end."""
    found: list[tuple[int, int, int]] = []
    opened: list[tuple[int, int] | None] = []
    for match in _BRACES.finditer(text):
        if match[0] == "{":
            opened.append(None)
        elif match[0] == "}":
            box = opened.pop() if opened else None
            if box:
                while found and found[-1][0] > box[0]:
                    found.pop()
                found.append((*box, match.start()))
        elif match[0].endswith("{") and len(match[0]) > 2:
            opened.append((match.start(), match.end()))
    return found


def _linked(between: str) -> bool:
    """Whether nothing but a comma, "and" or "or" stands between two boxes, and perhaps the ``x =`` of the second."""
    between = re.sub(r"\\(?:text\w*|mathrm|mbox|quad|qquad)(?![a-z])|[\s$*_{}~\\]", " ", between)
    between = re.sub(r"[a-zA-Z]\s*=\s*$", "", between)
    return bool(between.strip()) and all(word in ("and", "or") for word in re.sub("[,;]", " ", between).split())


def _sentence(text: str) -> str:
    """The rest of a sentence; full stops and ends of lines within a formula do not end it."""
    text = text.lstrip()
    formulas = [(found.start(), found.end()) for found in _FORMULA.finditer(text)]
    for stop in _STOP.finditer(text):
        inside = any(start < stop.start() < end for start, end in formulas)
        if not inside and not re.search(r"(?i)\b[ap]$", text[max(0, stop.start() - 2) : stop.start()]):
            text = text[: stop.start()]
            break
    aside = r",?\s(?:which|where|because|since|so|when|if|for)\b|,\sas\b|,\s(?!and\b|or\b)(?=[a-z]{2,}\s[^\d$]*$)"
    plain = re.split(aside, text, maxsplit=1)[0]
    whole = (plain.count("$") - plain.count(r"\$")) % 2 == 0
    return (plain if whole else text).strip(" \n\t*_")


def _last(text: str) -> str | None:
    """What "answer is" says, else the last formula of a text, or what its last number stands in where that is later."""
    text = _TAG.sub(" ", text)
    answers = list(_ANSWER.finditer(text))
    rest = text[answers[-1].end() :] if answers else ""
    sentence = _sentence(rest)
    if re.search(r"[\d$\\]", sentence) or (sentence and not re.search(r"[\d$\\]", rest)):
        return sentence
    formulas = [(found.start(), *found.span(found.lastindex or 0)) for found in _FORMULA.finditer(text)]
    digit = re.search(r"\d\D*$", text)
    if formulas and (not digit or digit.start() < formulas[-1][2]):
        return _together(text, formulas, 1 if text[formulas[-1][2]] == "$" else 2)
    return _plain(text, digit.start()) if digit else None


def _plain(text: str, place: int) -> str | None:
    """What a number stands in, in plain writing; None where the words before it say that it is no answer."""
    words = [found.span() for found in _PROSE.finditer(text)]
    start = max((end for _, end in words if end <= place), default=0)
    end = min((start for start, _ in words if start > place), default=len(text))
    found = re.sub(r"^\W*\b(?:and|or)\b|[\s,;:.\u2013\u2014-]*$", "", text[start:end])
    for opening, closing in ("{}", "()"):
        more = found.count(opening) - found.count(closing)
        found = found.rstrip(closing) if more < 0 else found.lstrip(f" {opening}") if more else found
    return None if _DENIED.search(text[:start]) else found


class _OutOfTime(BaseException):
    """Not an Exception, so that nothing on the way catches it."""
