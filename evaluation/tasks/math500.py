r"""MATH-500: the final answer of a solution, and whether it is the same as the reference.

Two metrics, named as in lm-eval's ``minerva_math500``: ``math_verify`` compares as mathematics, with the library of
that name (``1/2`` is ``0.5``), ``exact_match`` compares normalised strings.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from math_verify import parse, verify

SECONDS = 5
"""Wall-clock limit of reading one answer, and of one comparison. Real ones take milliseconds; a tower of powers takes
forever, on every machine, and is wrong when the time is up. The limit is a signal, which needs the main thread."""

LONGEST = 1000
"""Characters of the longest text that is read as mathematics; the longest answer of MATH-500 has 53."""

_PHRASE = re.compile(r"(?is)final answer is:?\s*(.+?)\s*(?:\.\s*I hope it is correct|\.?\s*$|\.?\s*\n)")
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)"
_WORDS = r"\\(?:text|textbf|textrm|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}"
_BASE = re.compile(r"([0-9A-Z.]+)_\{?(\d+)\}?")  # 2516_8
_SPACES = re.compile(r"(?<!\\)\\[,;:> ]|\\q?quad\b|~")  # but not the end of a row, a double backslash

# Its warnings are of answers that time out, which the score says already.
logging.getLogger("math_verify").setLevel(logging.ERROR)


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Both metrics of one generation, as lm-eval asks for them."""
    answer = final_answer(results[0])
    if answer is None:  # math-verify looks for the last formula or number by itself
        right = verified(doc["answer"], results[0][-LONGEST:])
        return {"math_verify": float(right), "exact_match": 0.0}
    exact = normal(answer) == normal(doc["answer"])
    return {"math_verify": float(same(doc["answer"], answer)), "exact_match": float(exact)}


def final_answer(text: str) -> str | None:
    r"""The last ``\boxed{...}``, else what follows "final answer is"; None without either.

    Boxes that are joined by nothing but a comma or "and" are one answer.
    """
    boxes = _boxes(text)
    if boxes:
        answer, start = text[boxes[-1][1] : boxes[-1][2]], boxes[-1][0]
        for one in reversed(boxes[:-1]):
            if not re.fullmatch(r"[\s$]*(?:,|and|or|,\s*and)[\s$]*", text[one[2] + 1 : start]):
                break
            answer, start = f"{text[one[1] : one[2]]}, {answer}", one[0]
        return answer.strip()
    phrases = _PHRASE.findall(text)
    return str(phrases[-1]) if phrases else None


def same(gold: str, answer: str) -> bool:
    """Whether ``answer`` is as good as ``gold``: as normalised strings, or as mathematics."""
    if normal(gold) == normal(answer):
        return bool(normal(answer))
    reference, other = (_BASE.fullmatch(normal(one)) for one in (gold, answer))
    if reference and other:  # math-verify passes over the base
        return reference.groups() == other.groups()
    return verified(gold, rf"\boxed{{{clean(answer)}}}")


def verified(gold: str, text: str) -> bool:
    """Whether math-verify finds ``gold`` in ``text``; a text that is too long, or takes too long, has nothing in it."""
    if len(text) > LONGEST:
        return False
    reference = parse(f"${clean(gold)}$", parsing_timeout=SECONDS)
    answer = parse(text, parsing_timeout=SECONDS)
    return bool(verify(reference, answer, timeout_seconds=SECONDS))


def clean(answer: str) -> str:
    """``answer`` without what carries no value: dollar and percent signs, degrees, units behind a number, ``x =``."""
    text = answer.strip()
    if text.startswith("$") and text.endswith("$"):
        text = text.strip("$")
    text = re.sub(r"\\(?:left|right)(?![a-zA-Z])", "", _SPACES.sub(" ", re.sub(r"\\!\s*", "", text)))
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"\\?\$|\\?%|\^\s*\{?\s*\\circ\s*\}?|\\degree\b", "", text)
    text = text.replace("{,}", ",")
    if re.fullmatch(r"[^\d(\[{]*\d{1,3}(,\d{3})+(\.\d+)?\D*", text):  # one number; (1,234) is a pair
        text = text.replace(",", "")
    text = text.strip().rstrip(".").strip()
    text = re.sub(rf"^{_WORDS}$", r"\1", text)
    text = re.sub(rf"({_NUMBER}|\}})\s*{_WORDS}(?:\s*\^\s*\{{?\d\}}?)?$", r"\1", text)
    text = re.sub(rf"^({_NUMBER})\s+[A-Za-z][A-Za-z .]+$", r"\1", text)
    text = re.sub(r"^[A-Za-z]\s*=\s*(?!.*=)", "", text)
    return re.sub(r"^(-?\d+(?:\.\d+)?)[eE]([+-]?\d+)$", r"\1\\times10^{\2}", text).strip()


def normal(answer: str) -> str:
    """One spelling for answers that are written alike: `clean`, without spaces, short fractions, short roots, case."""
    text = re.sub(_WORDS, r"\1", clean(answer))
    text = re.sub(r"\\frac\s*([0-9a-zA-Z])\s*([0-9a-zA-Z])", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac\s*([0-9a-zA-Z])\s*\{", r"\\frac{\1}{", text)
    text = re.sub(r"\\sqrt\s*([0-9a-zA-Z])", r"\\sqrt{\1}", text)
    text = re.sub(r"^(-?)(\d+)/(\d+)$", r"\1\\frac{\2}{\3}", text)
    text = re.sub(r"^\(([A-Za-z])\)$", r"\1", text)
    text = re.sub(r"(?<![\d.])\.(\d)", r"0.\1", text)
    text = re.sub(r"(\d)\.0+(?!\d)", r"\1", text)
    text = re.sub(r"\s+", "", text)
    return text.lower() if re.fullmatch(r"[A-Za-z]{2,}", text) else text


def _boxes(text: str) -> list[tuple[int, int, int]]:
    r"""``\boxed{...}`` and ``\fbox{...}``: where each starts, and start and end of what is inside."""
    found: list[tuple[int, int, int]] = []
    for match in re.finditer(r"\\(?:boxed|fbox)\s*\{", text):
        depth, place = 1, match.end()
        while place < len(text) and depth:
            escaped = text[place - 1] == "\\"
            depth += (text[place] == "{") - (text[place] == "}") if not escaped else 0
            place += 1
        if not depth and not (found and match.start() < found[-1][2]):
            found.append((match.start(), match.end(), place - 1))
    return found
