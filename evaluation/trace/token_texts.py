"""The text of single tokens; joined, it is the text of the sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MAX_TOKENS_PER_CHARACTER = 4
"""UTF-8 has at most as many bytes."""


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str | None]:
    """Text of each token, special tokens included.

    A token by itself may be a part of a character or lose its space, so each text is what the token adds to the ones
    before. None: the token continues the character of the token before it.
    """
    texts: list[str | None] = []
    before = read = 0
    for end in range(1, len(ids) + 1):
        shown, text = _decode(tokenizer, ids[before:read]), _decode(tokenizer, ids[before:end])
        unfinished = text.endswith("\N{REPLACEMENT CHARACTER}") or not text.startswith(shown)
        if unfinished and end - read < _MAX_TOKENS_PER_CHARACTER and end < len(ids):
            continue
        texts += [text[len(shown) :] if text.startswith(shown) else text, *[None] * (end - read - 1)]
        before, read = read, end
    return texts


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))
