"""MATH-500: find the final answer of a solution and compare it with the reference.

Two metrics, named as in lm-eval's ``minerva_math500``: ``math_verify`` compares values (``1/2`` is ``0.5``), parsing
formulas with the library of that name; ``exact_match`` compares normalised strings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cache_zoo.time_limit import cpu_time_limit
from evaluation.tasks.answer_parts import without_thoughts
from evaluation.tasks.mathematics.normalize import normalize

CPU_SECONDS = 5
"""Limit of one comparison; real ones take milliseconds. It is a signal, which only the main thread gets; elsewhere the
bounds on length, depth and size must do."""

MAX_CHARACTERS = 1000
"""Of an answer; the longest of MATH-500 has 53."""

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
"""What ends a formula in plain text: words, and the end of a sentence."""
_DENIED = re.compile(
    r"(?i)(?:\b(?:not|never|cannot|than|least|most|about|approximately|roughly|nearly|almost|around|over|under|between)"
    r"|n't)(?:\s+be)?\W*$"
)
_TAG = re.compile(
    r"</?[a-zA-Z]+>|(?<![\w\\}])\((?=[^()]*(?<![\\A-Za-z])[A-Za-z]{3,}\s)[^()]*\)|(?i:\\?\b(?:boxed|fbox|framebox)(?![a-z])\s{0,9})"
)
_MAX_BOXES = 30  # of one answer
_MAX_GAP = 60  # characters between two boxes of one answer
_BRACES = re.compile(r"\\(?:boxed|fbox|framebox)\s{0,9}\{|\\.|[{}]", re.DOTALL)


def score(doc: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The metrics of an answer."""
    return {f"{metric},none": value for metric, value in process_results(doc, [text]).items()}


def problem(doc: Mapping[str, Any]) -> str | None:
    """Why a row can't be scored; None if it can."""
    if not doc["answer"].strip("$ \t\r\n\\."):
        return "'answer' is blank"
    return None if same(doc["answer"], doc["answer"]) else "'answer' can't be read: it does not even equal itself"


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """Both metrics of one answer, for lm-eval."""
    text, gold = without_thoughts(results[0]), doc["answer"]
    answer = final_answer(text)
    if answer is None:
        last = _last_formula(text[-MAX_CHARACTERS:])
        return {"math_verify": float(last is not None and same(gold, last)), "exact_match": 0.0}
    right = same(gold, answer)
    return {"math_verify": float(right), "exact_match": float(right and normalized(answer) == normalized(gold))}


def final_answer(text: str) -> str | None:
    r"""The last ``\boxed{...}``, else what follows "final answer is"; None without either.

    Boxes joined by nothing but a comma, "and" or "or" are one answer; of equal ones the last counts.
    """
    boxes = [box for box in _boxes(text) if text[box[1] : box[2]].strip()]
    if boxes:
        return _join(text, boxes, 1)
    phrases = [match.end() for match in _PHRASE.finditer(text)]
    return _sentence(text[phrases[-1] : phrases[-1] + MAX_CHARACTERS]) if phrases else None


def _join(text: str, spans: list[tuple[int, int, int]], width: int) -> str:
    """The last of these boxes or formulas, joined with those before it that belong to the same answer.

    ``spans`` has the start of each, and the start and end of its content; the closing delimiter is ``width`` wide.
    """
    start, first, last = spans[-1]
    answers = [text[first:last].strip()]
    for begin, first, last in reversed(spans[-_MAX_BOXES:-1]):
        if start - last > _MAX_GAP or not _linked(text[last + width : start]):
            break
        answer, start = text[first:last].strip(), begin
        if not any(same(answer, other) for other in answers):
            answers.insert(0, answer)
    return ", ".join(answers)


def same(gold: str, answer: str) -> bool:
    """Whether ``answer`` equals ``gold``; one that is too long, or takes too long to compare, does not."""
    if max(len(gold), len(answer)) > MAX_CHARACTERS:
        return False
    from evaluation.tasks.mathematics.comparison import equal  # sympy takes half a second to import

    try:
        with cpu_time_limit(CPU_SECONDS, _OutOfTime()):
            return equal(normalize(gold), normalize(answer))
    except (Exception, _OutOfTime):  # an answer may be any text; one that can't be read is wrong
        return False


def normalized(answer: str) -> str:
    """One spelling for answers that are written alike; empty for one that is too long."""
    from evaluation.tasks.mathematics.comparison import spelling  # as above

    try:
        return spelling(normalize(answer)) if len(answer) <= MAX_CHARACTERS else ""
    except Exception:  # as above
        return ""


def _boxes(text: str) -> list[tuple[int, int, int]]:
    r"""Outermost ``\boxed{...}`` and ``\fbox{...}``: of each its start, and the start and end of its content."""
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
    """Whether only a comma, "and" or "or" stands between two boxes, and perhaps the ``x =`` of the second."""
    between = re.sub(r"\\(?:text\w*|mathrm|mbox|quad|qquad)(?![a-z])|[\s$*_{}~\\]", " ", between)
    between = re.sub(r"[a-zA-Z]\s*=\s*$", "", between)
    return bool(between.strip()) and all(word in ("and", "or") for word in re.sub("[,;]", " ", between).split())


def _sentence(text: str) -> str:
    """The rest of a sentence; full stops and line ends within a formula do not end it."""
    text = text.lstrip()
    formulas = [(match.start(), match.end()) for match in _FORMULA.finditer(text)]
    for stop in _STOP.finditer(text):
        inside = any(start < stop.start() < end for start, end in formulas)
        if not inside and not re.search(r"(?i)\b[ap]$", text[max(0, stop.start() - 2) : stop.start()]):
            text = text[: stop.start()]
            break
    aside = r",?\s(?:which|where|because|since|so|when|if|for)\b|,\sas\b|,\s(?!and\b|or\b)(?=[a-z]{2,}\s[^\d$]*$)"
    plain = re.split(aside, text, maxsplit=1)[0]
    whole = (plain.count("$") - plain.count(r"\$")) % 2 == 0
    return (plain if whole else text).strip(" \n\t*_")


def _last_formula(text: str) -> str | None:
    """What follows "answer is", else the last formula or the formula around the last number, whichever is later."""
    text = _TAG.sub(" ", text)
    answers = list(_ANSWER.finditer(text))
    rest = text[answers[-1].end() :] if answers else ""
    sentence = _sentence(rest)
    if re.search(r"[\d$\\]", sentence) or (sentence and not re.search(r"[\d$\\]", rest)):
        return sentence
    formulas = [(match.start(), *match.span(match.lastindex or 0)) for match in _FORMULA.finditer(text)]
    digit = re.search(r"\d\D*$", text)
    if formulas and (not digit or digit.start() < formulas[-1][2]):
        return _join(text, formulas, 1 if text[formulas[-1][2]] == "$" else 2)
    return _plain_formula(text, digit.start()) if digit else None


def _plain_formula(text: str, place: int) -> str | None:
    """The formula around a number in plain text; None if the words before it deny that it is the answer."""
    words = [found.span() for found in _PROSE.finditer(text)]
    start = max((end for _, end in words if end <= place), default=0)
    end = min((start for start, _ in words if start > place), default=len(text))
    found = re.sub(r"^\W*\b(?:and|or)\b|[\s,;:.\u2013\u2014-]*$", "", text[start:end])
    for opening, closing in ("{}", "()"):
        more = found.count(opening) - found.count(closing)
        found = found.rstrip(closing) if more < 0 else found.lstrip(f" {opening}") if more else found
    return None if _DENIED.search(text[:start]) else found


class _OutOfTime(BaseException):
    """A BaseException, so that no handler on the way catches it."""
