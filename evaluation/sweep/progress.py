"""How far a sweep is: a live view in a terminal, a line per cell elsewhere. On standard error."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from evaluation.config.settings import Settings
from evaluation.run.evaluate import run_of
from evaluation.storage.saved_run import flatten
from evaluation.sweep.outcome import axes
from evaluation.sweep.workers import log_of

_SHOWN = ("done", "running", "failed", "oom", "skipped", "partial")


class Display:
    """Shows a sweep. What a running cell has answered is read from its status.

    Args:
        cells: of the sweep.
        console: where; standard error by default.
    """

    def __init__(self, cells: Sequence[Settings], console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._labels = dict(zip(map(_key, cells), labels(cells), strict=True))
        self._total, self._counts = len(cells), Counter[str]()
        self._begun: dict[str, float] = {}
        self._seconds: list[float] = []
        # lines of JSON go above the view where both are in one terminal, and nowhere else but to standard output
        together = self._console.is_terminal and sys.stdout.isatty()
        self._live = Live(console=self._console, refresh_per_second=2, transient=True, redirect_stdout=together)

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def refresh(self, running: Sequence[Settings]) -> None:
        """Show what the running cells have answered by now."""
        for cell in running:
            self._begun.setdefault(_key(cell), time.monotonic())
        if self._console.is_terminal:
            self._live.update(Group(self._summary(len(running)), self._bars(running)))

    def ended(self, cell: Settings, line: dict[str, Any]) -> None:
        """A cell has ended; ``line`` is what is printed of it."""
        self._counts[line["status"]] += 1
        seconds = time.monotonic() - self._begun.pop(_key(cell), time.monotonic())
        if line["status"] == "done" and seconds >= 1:  # below it is one that was done before
            self._seconds.append(seconds)
        number = f"[{sum(self._counts.values())}/{self._total}]"
        text = f"{number} {line['status']:7} {self._labels[_key(cell)]}: {_told(cell, line)}"
        self._console.print(Text(text), soft_wrap=True)
        if not self._console.is_terminal and (left := self._left(1)):
            self._console.print(Text(f"{' ' * len(number)} {left}"), soft_wrap=True)

    def _summary(self, running: int) -> Text:
        counts = {**self._counts, "running": running}
        told = ", ".join(f"{counts[status]} {status}" for status in _SHOWN if counts.get(status))
        return Text("; ".join(part for part in (f"{told} of {self._total} cells", self._left(running)) if part))

    def _left(self, jobs: int) -> str:
        """An estimate from the cells that have ended; nothing before the first has."""
        left = self._total - sum(self._counts.values())
        if not self._seconds or not left:
            return ""
        seconds = sum(self._seconds) / len(self._seconds) * left / max(1, jobs)
        return f"about {duration(seconds)} left"

    def _bars(self, running: Sequence[Settings]) -> Progress:
        bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            console=self._console,
        )
        for cell in running:
            # a status may be of another version, or of anybody
            status = {key: value for key, value in run_of(cell).status.items() if isinstance(value, int | float)}
            speed = status.get("tokens_per_second")
            bars.add_task(
                self._labels[_key(cell)],
                total=status.get("total") or None,
                completed=int(status.get("answered", 0)),
                speed=f"{speed:.1f} tokens/s" if speed else "",
            )
        return bars


def labels(cells: Sequence[Settings]) -> list[str]:
    """A name for each cell: its choices, and what else differs between the cells."""
    named = {"model.name", "model.path", "cache.name", "dataset.name", "output_dir"}
    configs = [flatten(cell.config) for cell in cells]
    keys = list(dict.fromkeys(key for config in configs for key in config if key not in named))
    swept = [key for key in keys if key.split(".")[0] not in ("cache", "recipe") and len(_values(configs, key)) > 1]
    found = []
    for cell, config in zip(cells, configs, strict=True):
        alike = [other for one, other in zip(cells, configs, strict=True) if one.cache.label == cell.cache.label]
        tuned = [key for key in keys if key.startswith("cache.") and len(_values(alike, key)) > 1]
        more = [f"{key.split('.')[-1]}={_written(config.get(key))}" for key in [*swept, *tuned]]
        found.append(" ".join([*dict.fromkeys(axes(cell).values()), *more]))
    return found


def duration(seconds: float) -> str:
    """In seconds below two minutes, in minutes below two hours, else in hours."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 3600:.1f} h"


def _key(cell: Settings) -> str:
    return str(run_of(cell).folder)


def _values(configs: Sequence[dict[str, Any]], key: str) -> set[str]:
    return {repr(config.get(key)) for config in configs}


def _written(value: Any) -> str:
    return "null" if value is None else str(value)


def _told(cell: Settings, line: dict[str, Any]) -> str:
    if line["status"] != "done":
        reason = str(line.get("reason", "")).splitlines()[:1] or [""]
        return f"{reason[0]} (log: {log_of(cell)})" if line["status"] in ("failed", "oom") else reason[0]
    score = "no score" if line["score"] is None else f"{100 * line['score']:.1f} %"
    speed = line["tokens_per_second"]
    return f"{score} of {line['n']}" + (f", {speed:.1f} tokens/s" if speed else "")
