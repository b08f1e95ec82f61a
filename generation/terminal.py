"""Draw running generations in the terminal."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.text import Text

from generation.output import Progress

_FRAME_SECONDS = 1 / 30


Marks = dict[str, str]
"""Characters for positions without text: masked in the current ``block`` or elsewhere, masked again (``revoked``), and
``special`` tokens."""
MARKS: Marks = {"block": "░", "masked": "·", "revoked": "✗", "special": "▪"}
_ASCII: Marks = {"block": "#", "masked": ".", "revoked": "x", "special": "|"}
_STYLES = {
    "block": "cyan",
    "masked": "dim",
    "revoked": "bold white on red",
    "special": "dim",
    "new": "bold black on green",
    "text": "",
}


class Picture:
    """The picture of one generation under its title; ``marks`` stand for positions without text."""

    def __init__(self, title: str, tokenizer: Any, mask_id: int, marks: Marks) -> None:
        self.title, self.status = title, "waiting"
        self._tokenizer, self._mask_id, self._marks = tokenizer, mask_id, marks
        self._special = set(tokenizer.all_special_ids)
        self._text, self._focus = Text(), 0

    def update(self, progress: Progress, status: str) -> None:
        """Take over the progress of the generation (of one sequence): the columns that exist."""
        ids, new = progress.ids(0), progress.committed[0].tolist()
        gone = [False] * len(ids) if progress.revoked is None else progress.revoked[0].tolist()
        region = progress.regions[0]
        inside = range(region.start, region.end)
        kinds = [self._kind(ids[place], new[place], gone[place], place in inside) for place in range(len(ids))]
        self._text, self._focus, self.status = Text(), 0, status
        start = 0
        for place in range(1, len(ids) + 1):
            if place < len(ids) and kinds[place] == kinds[start] and place != inside.start:
                continue
            if start == inside.start:
                self._focus = len(self._text)
            self._text.append(self._spelled(kinds[start], ids[start:place]), style=_STYLES[kinds[start]])
            start = place

    def render(self, console: Console, height: int) -> RenderableType:
        """The picture in at most ``height`` lines, those around the current block."""
        lines, room = _folded(self._text, console.width), max(height - 2, 1)
        if len(lines) > room:
            at = len(_folded(self._text[: self._focus + 1], console.width)) - 1
            first = min(max(at - room // 3, 0), len(lines) - room)
            lines = lines[first : first + room]
        status = Text(self.status, style="dim", no_wrap=True, overflow="ellipsis")
        return Group(Rule(self.title, align="left", style="dim"), *lines, status)

    def _kind(self, token: int, new: bool, gone: bool, inside: bool) -> str:
        if token == self._mask_id:
            return "revoked" if gone else "block" if inside else "masked"
        return "new" if new else "special" if token in self._special else "text"

    def _spelled(self, kind: str, ids: list[int]) -> str:
        if kind in self._marks:
            return self._marks[kind] * len(ids)
        if kind == "new" and set(ids) <= self._special:
            return self._marks["special"] * len(ids)
        return printable(str(self._tokenizer.decode(ids, skip_special_tokens=False)))


class Screen:
    """Pictures under the prompt on the terminal's alternate screen, redrawn while their generations run.

    The whole screen is drawn each time, so the window may change its size.
    """

    def __init__(self, console: Console, prompt: str, pictures: Sequence[Picture]) -> None:
        self._console, self._pictures, self._last = console, pictures, 0.0
        self._prompt = Text(" ".join(prompt.split()), style="dim", no_wrap=True, overflow="ellipsis")
        self._live = Live(console=console, auto_refresh=False, screen=True)

    def __enter__(self) -> Screen:
        self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)

    def draw(self) -> None:
        """Redraw, at most 30 times a second."""
        if time.perf_counter() - self._last >= _FRAME_SECONDS:
            height = (self._console.height - 1) // len(self._pictures)
            pictures = (one.render(self._console, height) for one in self._pictures)
            self._live.update(Group(self._prompt, *pictures), refresh=True)
            self._last = time.perf_counter()


def _folded(text: Text, width: int) -> list[Text]:
    """``text`` in lines of at most ``width`` cells, broken anywhere: word wrap would jump as words appear."""
    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        line.expand_tabs()
        breaks, filled = [], 0
        for place, character in enumerate(line.plain):
            cells = cell_len(character)
            if filled + cells > width:
                breaks.append(place)
                filled = 0
            filled += cells
        lines += line.divide(breaks)
    return lines


def marks_of(console: Console) -> Marks:
    """The marks that the terminal's encoding can print."""
    return MARKS if console.encoding.lower().startswith("utf") else _ASCII


def printable(text: str) -> str:
    """``text`` with control characters other than line ends and tabs replaced."""
    return "".join("�" if unicodedata.category(one) == "Cc" and one not in "\n\t" else one for one in text)
