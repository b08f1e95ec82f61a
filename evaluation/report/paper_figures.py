"""Figures of papers, as their authors report them, from ``paper_figures.csv``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.report.columns import COLUMNS

_FILE = Path(__file__).with_name("paper_figures.csv")
TEXTS = ("paper", "arxiv", "table", "model", "task", "method", "hardware", "note")
FIGURES = tuple(column for column in COLUMNS if column.published)


def read_paper_figures() -> pd.DataFrame:
    """The file: scores as shares, NA for what a paper does not report."""
    return pd.read_csv(_FILE, dtype=dict.fromkeys(TEXTS, str))


def paper_figure_rows(frame: pd.DataFrame | None) -> list[dict[str, Any]]:
    """One row per figure, texts empty and numbers None where a paper does not report them."""
    rows = [] if frame is None else frame.to_dict(orient="records")
    return [
        {key: "" if pd.isna(row.get(key)) else str(row[key]) for key in TEXTS}
        | {figure.key: figure.normalized(row.get(figure.key)) for figure in FIGURES}
        for row in rows
    ]
