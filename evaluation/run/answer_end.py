"""Where an answer ends, and so which generated tokens count: those before the first end token or stop text."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models import ModelConfig


@dataclass(frozen=True)
class TrimmedAnswer:
    """The part of a generation that counts.

    Attributes:
        text: everything before the first end token or stop text.
        raw: the whole generation, special tokens included.
        tokens: number of counted tokens: those that ``text`` takes.
    """

    text: str
    raw: str
    tokens: int


class AnswerEnd:
    """The rules by which an answer ends.

    Args:
        tokenizer: of the checkpoint.
        config: of the checkpoint; its end-of-sequence and end-of-turn tokens end an answer.
        end_tokens: further end tokens, by their text; unknown ones are ignored.
        stop_words: stop texts.
    """

    def __init__(
        self, tokenizer: Any, config: ModelConfig, end_tokens: Sequence[str] = (), stop_words: Sequence[str] = ()
    ) -> None:
        self._tokenizer = tokenizer
        self._added = tokenizer.get_added_vocab()
        self._stop_words = list(stop_words)
        self.end_ids = config.end_ids | {self._added[token] for token in end_tokens if token in self._added}

    def cut(self, ids: Sequence[int], until: Sequence[str] = ()) -> TrimmedAnswer:
        """Cut generated ``ids`` at the first end token, stop text, or text of ``until``.

        A stop text that is a special token of the tokenizer is matched as a token, since decoding hides it.
        """
        stops = [word for word in [*until, *self._stop_words] if word]
        ends = self.end_ids | {self._added[word] for word in stops if word in self._added}
        length = next((position for position, token in enumerate(ids) if token in ends), len(ids))
        kept = list(ids[:length])
        text = self._decode(kept)
        stop_positions = [position for word in stops if (position := text.find(word)) >= 0]
        if stop_positions:
            text = text[: min(stop_positions)]
            # the shortest prefix of tokens whose text is at least as long
            length = bisect.bisect_left(range(len(kept)), len(text), key=lambda n: len(self._decode(kept[:n])))
        return TrimmedAnswer(text=text, raw=self._tokenizer.decode(list(ids), skip_special_tokens=False), tokens=length)

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))
