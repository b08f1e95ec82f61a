"""Where an answer ends, among the tokens and texts that may end it."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models import ModelConfig


@dataclass(frozen=True)
class Answer:
    """The part of a generation that counts.

    Attributes:
        text: up to the first end token or stop text, both left out.
        raw: everything generated, special tokens included.
        tokens: generated tokens that ``text`` takes.
    """

    text: str
    raw: str
    tokens: int


class Ending:
    """Where an answer ends.

    Args:
        tokenizer: of the checkpoint.
        config: of the checkpoint; its end-of-sequence and end-of-turn tokens end an answer.
        end_tokens: further tokens that do, by their text; unknown ones are passed over.
        stop_words: texts that do.
    """

    def __init__(
        self, tokenizer: Any, config: ModelConfig, end_tokens: Sequence[str] = (), stop_words: Sequence[str] = ()
    ) -> None:
        self._tokenizer = tokenizer
        self._added = tokenizer.get_added_vocab()
        self._stop_words = list(stop_words)
        self.end_ids = {config.eos_id} | ({config.eot_id} if config.eot_id is not None else set())
        self.end_ids |= {self._added[token] for token in end_tokens if token in self._added}

    def cut(self, ids: Sequence[int], until: Sequence[str] = ()) -> Answer:
        """The answer in generated ``ids``, which ends at ``until`` as well.

        A stop text that is a special token of the tokenizer ends the answer as a token: decoding hides it.
        """
        stops = [word for word in [*until, *self._stop_words] if word]
        ends = self.end_ids | {self._added[word] for word in stops if word in self._added}
        length = next((place for place, token in enumerate(ids) if token in ends), len(ids))
        kept = list(ids[:length])
        text = self._decode(kept)
        found = [place for word in stops if (place := text.find(word)) >= 0]
        if found:
            text = text[: min(found)]
            # the first so many tokens whose text is as long
            length = bisect.bisect_left(range(len(kept)), len(text), key=lambda n: len(self._decode(kept[:n])))
        return Answer(text=text, raw=self._tokenizer.decode(list(ids), skip_special_tokens=False), tokens=length)

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))
