"""GSM8K and nano-gsm: find the number in an answer and compare it, as lm-eval's filters and exact match do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_NANO = re.compile(r"#### (-?[0-9]+)")
_INVALID = "[invalid]"
_NUMBER = re.compile(r"-?\$?-?[0-9][0-9,]*(?:\.[0-9]+)?\.?|-?\$?\.[0-9]+")


def score(doc: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The metrics of an answer to a question of GSM8K."""
    return {
        "exact_match,strict-match": float(same(strict(text), doc["answer"])),
        "exact_match,flexible-extract": float(same(flexible(text), doc["answer"])),
    }


def score_nano(doc: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The metric of an answer to a question of nano-gsm."""
    return {"exact_match,strict-match": float(strict(text, _NANO) == doc["answer"].rpartition("#### ")[2])}


def problem(doc: Mapping[str, Any]) -> str | None:
    """Why a row can't be scored; None if it can."""
    if _NUMBER.fullmatch(doc["answer"].rpartition("#### ")[2]) and "#### " in doc["answer"]:
        return None
    return "'answer' must end with #### and a number, and nothing behind it"


def strict(text: str, number: re.Pattern[str] = _STRICT) -> str:
    """The number behind the first ``####``."""
    match = number.search(text)
    return match.group(1).strip() if match else _INVALID


def flexible(text: str) -> str:
    """The last number."""
    found = _FLEXIBLE.findall(text)
    return next(group for group in found[-1] if group).strip() if found else _INVALID


def same(answer: str, target: str) -> bool:
    """lm-eval's exact match for GSM8K: ignores commas, dollar signs, a final full stop and the reasoning."""
    return _normalized(answer) == _normalized(target)


def _normalized(text: str) -> str:
    # lm-eval removes the reasoning with ``.*#### ``, which takes quadratic time where there is none
    return re.sub(r"\.$", "", text.replace(",", "").replace("$", "").rpartition("#### ")[2]).lower()
