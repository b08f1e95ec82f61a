"""Where a text can be split: outside of all brackets."""

from __future__ import annotations

import re


def depths(text: str) -> list[int]:
    """In how many brackets each character stands; an opening bracket is outside of itself, a closing one inside."""
    found, depth = [], 0
    for one in text:
        found.append(depth)
        depth = max(0, depth + (one in "([{") - (one in ")]}"))
    return found


def outside(text: str, sign: re.Pattern[str]) -> list[re.Match[str]]:
    """Where ``sign`` is found outside of all brackets."""
    depth = depths(text)
    return [match for match in sign.finditer(text) if depth[match.start()] == 0]


def split(text: str, sign: re.Pattern[str]) -> list[str]:
    """The parts of a text between those places."""
    parts, start = [], 0
    for match in outside(text, sign):
        parts.append(text[start : match.start()].strip())
        start = match.end()
    return [*parts, text[start:].strip()]


def enclosed(text: str) -> tuple[str, str, str] | None:
    """The bracket that opens a text, what is in it, and the one that closes it; None if no pair holds all of it."""
    size = 2 if text.startswith(r"\{") and text.endswith(r"\}") else 1
    if size == 1 and not (text[:1] in ("(", "[") and text[-1:] in (")", "]")):
        return None
    if len(text) < 2 * size or 0 in depths(text)[size:]:
        return None
    return text[size - 1], text[size:-size].strip(), text[-1]
