"""GSM8K and nano-gsm: the number that an answer gives, as lm-eval's filters and its exact match find it."""

from __future__ import annotations

import re

_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_NANO = re.compile(r"#### (-?[0-9]+)")
_NONE = "[invalid]"


def strict(text: str) -> str:
    """The number behind the first ``####``."""
    found = _STRICT.search(text)
    return found.group(1).strip() if found else _NONE


def flexible(text: str) -> str:
    """The last number."""
    found = _FLEXIBLE.findall(text)
    return next(one for one in found[-1] if one).strip() if found else _NONE


def nano(text: str) -> str:
    """The whole number behind the first ``####``."""
    found = _NANO.search(text)
    return found.group(1) if found else _NONE


def same(answer: str, target: str) -> bool:
    """lm-eval's exact match for GSM8K: commas, dollar signs, a last full stop and the reasoning do not count."""
    return _counted(answer) == _counted(target)


def _counted(text: str) -> str:
    """What counts of a text. lm-eval's pattern for the reasoning, ``.*#### ``, takes quadratic time where none is."""
    return re.sub(r"\.$", "", text.replace(",", "").replace("$", "").rpartition("#### ")[2]).lower()
