"""Figures of papers, as their authors report them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import pandas as pd

from evaluation.report.html.rows import records


@dataclass(frozen=True)
class Figure:
    """One line of a paper's table; the score is a share. What it does not report is None."""

    paper: str
    arxiv: str
    table: str
    model: str
    task: str
    method: str
    score: float | None
    tokens_per_second: float | None
    speedup: float | None
    hardware: str
    note: str

    def plain(self) -> dict[str, Any]:
        """What the page's script reads."""
        return asdict(self)


def figures(published: pd.DataFrame | None) -> list[Figure]:
    """One figure per row, in the frame's order."""
    return [] if published is None else [_figure(row) for row in records(published)]


def _figure(row: dict[str, Any]) -> Figure:
    numbers = {field.name for field in fields(Figure) if "float" in str(field.type)}
    found: dict[str, Any] = {}
    for name in (field.name for field in fields(Figure)):
        value = row.get(name)
        if name in numbers:
            found[name] = None if value is None else float(value)
        else:
            found[name] = "" if value is None else str(value)
    return Figure(**found)
