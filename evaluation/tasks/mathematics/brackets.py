"""Split a text outside of brackets."""

from __future__ import annotations

import re


def depths(text: str) -> list[int]:
    """Nesting depth of each character; an opening bracket counts as outside, a closing one as inside."""
    levels, depth = [], 0
    for char in text:
        levels.append(depth)
        depth = max(0, depth + (char in "([{") - (char in ")]}"))
    return levels


def outside(text: str, sign: re.Pattern[str]) -> list[re.Match[str]]:
    """Matches of ``sign`` outside of brackets."""
    depth = depths(text)
    return [match for match in sign.finditer(text) if depth[match.start()] == 0]


def split(text: str, sign: re.Pattern[str]) -> list[str]:
    """The parts of a text between these matches."""
    parts, start = [], 0
    for match in outside(text, sign):
        parts.append(text[start : match.start()].strip())
        start = match.end()
    return [*parts, text[start:].strip()]


def enclosed(text: str) -> tuple[str, str, str] | None:
    """Opening bracket, content and closing bracket, if one pair encloses the whole text."""
    size = 2 if text.startswith(r"\{") and text.endswith(r"\}") else 1
    if size == 1 and not (text[:1] in ("(", "[") and text[-1:] in (")", "]")):
        return None
    if len(text) < 2 * size or 0 in depths(text)[size:]:
        return None
    return text[size - 1], text[size:-size].strip(), text[-1]
