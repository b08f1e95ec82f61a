"""Chat templates of tokenizers, which are code of the checkpoint's author."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cache_zoo import UsageError
from cache_zoo.errors import first_line, is_utf8, shown
from cache_zoo.time_limit import cpu_time_limit

Turn = dict[str, str]
"""``role`` (system, user or assistant) and ``content``."""
_MAX_SECONDS = 5.0
"""CPU time for one conversation; real templates take a thousandth of it."""


class Chat:
    """A chat template, tested on a trial conversation of each shape before its first use.

    Errors name ``instead``, the setting that avoids the template.
    """

    def __init__(self, tokenizer: Any, instead: str) -> None:
        self._tokenizer, self._instead = tokenizer, instead
        self._tried: set[tuple[str, ...]] = set()

    def render(self, turns: Sequence[Turn], continued: bool = False) -> str:
        """The conversation as one text.

        Args:
            turns: of the conversation.
            continued: the last turn is the start of the answer; otherwise the answer follows all turns.

        Raises:
            UsageError: the template raises, or drops a turn.
        """
        roles = (*(turn["role"] for turn in turns), str(continued))
        if roles not in self._tried:
            self._try(turns, continued)
            self._tried.add(roles)
        return self._apply(turns, continued)

    def _try(self, turns: Sequence[Turn], continued: bool) -> None:
        """Raise `UsageError` unless the text of every turn is rendered, and a continued one comes last."""
        texts = [f"this-is-turn-{number}-of-a-trial" for number in range(1, len(turns) + 1)]
        trial = [{**turn, "content": text} for turn, text in zip(turns, texts, strict=True)]
        rendered = self._apply(trial, continued)
        for number, (turn, text) in enumerate(zip(turns, texts, strict=True), start=1):
            last = continued and number == len(turns)
            if text not in rendered or (last and not rendered.rstrip().endswith(text)):
                what = "the start of the answer" if last else f"the {turn['role']} message"
                raise self._refusal(turns, f"it drops {what} (turn {number} of {len(turns)})")

    def _apply(self, turns: Sequence[Turn], continued: bool) -> str:
        try:
            with cpu_time_limit(_MAX_SECONDS, TimeoutError(f"it takes more than {_MAX_SECONDS} seconds")):
                rendered = self._tokenizer.apply_chat_template(
                    list(turns), tokenize=False, add_generation_prompt=not continued, continue_final_message=continued
                )
        except Exception as error:  # Jinja, the template or transformers may raise anything
            raise self._refusal(turns, f"{type(error).__name__}: {first_line(error, '')}") from error
        if not is_utf8(str(rendered)):
            raise self._refusal(turns, "it writes a lone surrogate, which is no text")
        return str(rendered)

    def _refusal(self, turns: Sequence[Turn], why: str) -> UsageError:
        roles = ", ".join(dict.fromkeys(turn["role"] for turn in turns))
        where = shown(str(self._tokenizer.name_or_path))
        return UsageError(f"the chat template of {where} can't be used for {roles}: {why}; give {self._instead}")
