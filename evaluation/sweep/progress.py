"""Progress of a sweep on standard error: a live view in a terminal, else a line per cell."""

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

from evaluation.config.differences import differing, option_text, options
from evaluation.config.identity import BASELINE
from evaluation.config.registered_choices import GROUPS
from evaluation.storage.saved_run import flatten
from evaluation.sweep.cell import Cell

_LEFT_OUT = ("suffix", "store")
"""Choices that are not named where they are those of a baseline."""
_STATUSES = ("done", "running", "failed", "oom", "skipped", "partial")
"""Of the summary line, in this order."""


class Display:
    """Shows a sweep on ``console``, standard error by default; a cell's progress is read from its ``status.json``."""

    def __init__(self, cells: Sequence[Cell], console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._labels = dict(zip(cells, labels(cells), strict=True))
        self._total, self._counts = len(cells), Counter[str]()
        self._started: dict[Cell, float] = {}
        self._durations: list[float] = []
        # lines of JSON go above the view if both are in one terminal, and nowhere but to standard output otherwise
        together = self._console.is_terminal and sys.stdout.isatty()
        self._live = Live(console=self._console, refresh_per_second=2, transient=True, redirect_stdout=together)

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def refresh(self, running: Sequence[Cell]) -> None:
        """Show the progress of the running cells."""
        for cell in running:
            self._started.setdefault(cell, time.monotonic())
        if self._console.is_terminal:
            self._live.update(Group(self._summary(len(running)), self._bars(running)))

    def ended(self, cell: Cell, line: dict[str, Any]) -> None:
        """Show that a cell has ended; ``line`` is its `CellResult.line`."""
        status = line["status"]
        self._counts[status] += 1
        seconds = time.monotonic() - self._started.pop(cell, time.monotonic())
        if status == "done" and seconds >= 1:  # faster ones were done before
            self._durations.append(seconds)
        number = f"[{sum(self._counts.values())}/{self._total}]"
        text = f"{number} {status:7} {self._labels[cell]}: {_ending(cell, line)}"
        self._console.print(Text(text), soft_wrap=True)
        if not self._console.is_terminal and (remaining := self._remaining(1)):
            self._console.print(Text(f"{' ' * len(number)} {remaining}"), soft_wrap=True)

    def _summary(self, running: int) -> Text:
        counts = {**self._counts, "running": running}
        listed = ", ".join(f"{counts[status]} {status}" for status in _STATUSES if counts.get(status))
        return Text("; ".join(part for part in (f"{listed} of {self._total} cells", self._remaining(running)) if part))

    def _remaining(self, jobs: int) -> str:
        """The estimated time left, from the cells that have ended; empty before the first has."""
        left = self._total - sum(self._counts.values())
        if not self._durations or not left:
            return ""
        seconds = sum(self._durations) / len(self._durations) * left / max(1, jobs)
        return f"about {duration(seconds)} left"

    def _bars(self, running: Sequence[Cell]) -> Progress:
        bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            console=self._console,
        )
        for cell in running:
            # the status is untrusted
            status = {key: value for key, value in cell.run.status.items() if isinstance(value, int | float)}
            speed = status.get("tokens_per_second")
            bars.add_task(
                self._labels[cell],
                total=status.get("total") or None,
                completed=int(status.get("answered", 0)),
                speed=f"{speed:.1f} tokens/s" if speed else "",
            )
        return bars


def labels(cells: Sequence[Cell]) -> list[str]:
    """A name for each cell: its choices, and the values that differ between cells."""
    configs = [options(flatten(cell.settings.config)) for cell in cells]
    groups = ("generation", *GROUPS)  # the parameters of one choice say nothing of another
    swept = [key for key in differing(configs) if key.split(".")[0] not in groups]
    names = []
    for cell, config in zip(cells, configs, strict=True):
        axes, tuned = cell.settings.axes, []
        for group in groups:
            pairs = zip(cells, configs, strict=True)
            same = [other for one, other in pairs if one.settings.axes[group] == axes[group]]
            tuned += [key for key in differing(same) if key.startswith(f"{group}.")]
        values = [f"{key.split('.')[-1]}={option_text(config.get(key))}" for key in [*swept, *tuned]]
        choices = [axes[key] for key in axes if key not in _LEFT_OUT or axes[key] != BASELINE[key]]
        names.append(" ".join([*dict.fromkeys(choices), *values]))
    return names


def duration(seconds: float) -> str:
    """In seconds below two minutes, in minutes below two hours, else in hours."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 3600:.1f} h"


def _ending(cell: Cell, line: dict[str, Any]) -> str:
    """How a cell ended: score and speed, or the first line of the reason."""
    if line["status"] != "done":
        reason = next(iter(str(line.get("reason", "")).splitlines()), "")
        return f"{reason} (log: {cell.log})" if line["status"] in ("failed", "oom") else reason
    score = "no score" if line.get("score") is None else f"{100 * line['score']:.1f} %"
    speed = line.get("tokens_per_second")
    return f"{score} of {line['n']}" + (f", {speed:.1f} tokens/s" if speed else "")
