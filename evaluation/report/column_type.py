"""What a column of the leaderboard declares, and how a figure of it is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

import pandas as pd

from cache_zoo.errors import visible
from evaluation.storage.saved_run import SavedRun

Row = Mapping[str, Any]
Source = str | Callable[[SavedRun], Any]
View = Literal["table", "ranked", "unranked", "page"]

MISSING = "N/A"
TEXT, NUMBER, COUNT, FLAG = "object", "float64", "Int64", "boolean"
"""Types of columns in the frame."""


@dataclass(frozen=True)
class SpeedAxis:
    """A figure as a choice of the charts' speed axis.

    Attributes:
        title: of the axis.
        timed: the figure depends on seconds, so only runs of one machine are comparable.
        relative: the figure is against full recomputation, so only runs of one decoding are comparable.
        even: value without any gain, drawn as a line.
        form: number format of d3.
    """

    title: str
    timed: bool = False
    relative: bool = False
    even: float | None = None
    form: str = "~g"


@dataclass(frozen=True)
class FormattedFigure:
    """A figure as text.

    Attributes:
        text: without the interval.
        value: sort key; None sorts last.
        interval: ``[low, high]`` or empty.
        bar: value and interval as shares between 0 and 1, if they are drawn.
    """

    text: str
    value: Any
    interval: str = ""
    bar: tuple[float, float, float] | None = None

    def __str__(self) -> str:
        return f"{self.text} {self.interval}".rstrip()


@dataclass(frozen=True)
class Column:
    """A column: one figure or text of a run.

    Attributes:
        key: name in the CSV. With ``interval``, ``KEY_low`` and ``KEY_high`` follow it.
        kind: type in the frame; None: not in the CSV, only on the page.
        unit: of the CSV.
        meaning: one line, for the documentation and the page.
        title: in table, Markdown and page.
        form: format of a number; empty for text.
        scale: factor applied before formatting.
        better: the end that sorts first.
        interval: has a 95 % interval.
        config, results: source of the value: an attribute path from the run, or a function of the run. ``config`` needs
            the configuration alone, ``results`` a finished run; ``results`` wins.
        compared: attribute of `evaluation.report.compare.Comparison` that holds the value.
        flag: column of a flag and the text shown instead of the value where it is set.
        total: column with the total, shown after a slash where it is larger.
        table, ranked, unranked, page: position in the table, in the Markdown tables of ranked and of other runs and on
            the page; 0: not there. Equal positions keep the order of the registry.
        table_interval: the table shows the interval as well.
        if_any: the table shows the column only if a run has a value other than 0.
        plain: values of most runs; a view shows the column only if a run has another one. Empty: always.
        heading: position and template in the heading of a group of runs.
        published: papers report it; `evaluation/report/paper_figures.csv` has it.
        group: group of columns on the page; empty: always shown.
        tip: shown in the tooltips of the charts.
        bar: the page draws the interval, between 0 and 1.
        shared: the heading of a section of the page shows it.
        axis: as speed axis of the charts.
    """

    key: str
    kind: str | None
    unit: str
    meaning: str
    title: str = ""
    form: str = ""
    scale: float = 1
    better: Literal["more", "less", "first"] = "first"
    interval: bool = False
    config: Source | None = None
    results: Source | None = None
    compared: str | None = None
    flag: tuple[str, str] | None = None
    total: str | None = None
    table: int = 0
    ranked: int = 0
    unranked: int = 0
    page: int = 0
    table_interval: bool = False
    if_any: bool = False
    plain: tuple[Any, ...] = ()
    heading: tuple[int, str] | None = None
    published: bool = False
    group: str = ""
    tip: bool = False
    bar: bool = False
    shared: bool = False
    axis: SpeedAxis | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns of the CSV: the value and the ends of its interval."""
        return (self.key, f"{self.key}_low", f"{self.key}_high") if self.interval else (self.key,)

    @property
    def help(self) -> str:
        """The meaning as plain text."""
        return self.meaning.replace("`", "") + (", with its 95 % interval" if self.interval else "")

    def is_shown(self, rows: Iterable[Row]) -> bool:
        """Whether a view of ``rows`` has the column."""
        return not self.plain or any(row[self.key] not in self.plain for row in rows)

    def write(self, value: float | None) -> str:
        """A number as text."""
        if value is None:
            return MISSING
        scaled = value * self.scale
        return format(scaled, self.form) if math.isfinite(scaled) else str(value)

    def formatted(self, row: Row) -> FormattedFigure:
        """The value of ``row`` as text, with its interval."""
        value, *ends = (row[key] for key in self.keys)
        if self.flag and row[self.flag[0]]:
            return FormattedFigure(self.flag[1], None)
        if value is None:
            return FormattedFigure(MISSING if self.form else "", None)
        if not self.form:
            return FormattedFigure(str(value), str(value))
        total = row[self.total] if self.total else None
        text = self.write(value) + (f"/{self.write(total)}" if total is not None and total > value else "")
        if not ends or None in ends:
            return FormattedFigure(text, value)
        drawn = self.bar and all(0 <= number <= 1 for number in (value, *ends))
        return FormattedFigure(
            text, value, f"[{', '.join(map(self.write, ends))}]", (value, ends[0], ends[1]) if drawn else None
        )

    @property
    def table_title(self) -> str:
        """The title in tables of text."""
        return f"{self.title} [95 %]" if self.table_interval else self.title

    def table_text(self, row: Row) -> str:
        """The value of ``row`` in tables of text."""
        figure = self.formatted(row)
        return str(figure) if self.table_interval else figure.text

    def normalized(self, value: Any) -> Any:
        """A value of the frame, or of a CSV that was read as text, as a plain value; None where it is missing."""
        value = value.item() if hasattr(value, "item") else value
        if self.kind in (TEXT, None):
            missing = value is None or value is pd.NA or value is pd.NaT or value != value
            return None if missing else visible(str(value)) or None
        if self.kind == FLAG:
            return {"true": True, "false": False}.get(str(value).lower())
        return _number(value)


def read_source(source: Source, run: SavedRun) -> Any:
    """The value of a source for ``run``."""
    return attrgetter(source)(run) if isinstance(source, str) else source(run)


def _number(value: Any) -> float | int | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = value if isinstance(value, int | float) else float(str(value))
    except ValueError:
        return None
    return number if abs(number) < math.inf else None
