"""The text of single tokens, such that they spell what the whole sequence spells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MOST = 4
"""Tokens that can share a character: UTF-8 has no more bytes in one."""


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[str | None]:
    """Text of each token, special tokens included; joined it is the text of ``ids``.

    A token on its own may be a part of a character or lose its space. So each is what it adds to the one before it;
    None: it has no text of its own, because the token before it holds the character that both are parts of.
    """
    found: list[str | None] = []
    before = read = 0
    for end in range(1, len(ids) + 1):
        shown, text = _decode(tokenizer, ids[before:read]), _decode(tokenizer, ids[before:end])
        unfinished = text.endswith("\N{REPLACEMENT CHARACTER}") or not text.startswith(shown)
        if unfinished and end - read < _MOST and end < len(ids):
            continue
        found += [text[len(shown) :] if text.startswith(shown) else text, *[None] * (end - read - 1)]
        before, read = read, end
    return found


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))
