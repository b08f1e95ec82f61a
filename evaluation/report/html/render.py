"""The page as text: data gathered in Python, laid out by a template, drawn by a small script."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

import pandas as pd

from cache_zoo import caches
from evaluation.report.column_type import Column, Row
from evaluation.report.columns import BY_KEY, GROUPS, HIDDEN_GROUPS, SPEED_AXES, columns_in
from evaluation.report.html.cache_facts import arxiv_link, cache_facts
from evaluation.report.html.curves import find_curves
from evaluation.report.html.page_rows import page_rows
from evaluation.report.html.script import page_script, vega
from evaluation.report.html.sections import sections
from evaluation.report.html.self_contained import embedded, environment, policy
from evaluation.report.paper_figures import FIGURES, paper_figure_rows

COLOURS = 10
"""Colours of the style sheet; further caches start over."""
FILTERS = ("model", "task", "cache", "suffix", "store", "decoding", "status", "hardware")


def render_page(frame: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """``leaderboard.html``, from its arguments and the registry of caches; the same arguments give the same text.

    Args:
        frame: one row per run, with the columns of leaderboard.csv; scores are shares. Rows that are not ``ranked`` are
            marked, sorted last and left out of fronts.
        published: figures of papers, with the columns of ``paper_figures.csv``.

    Raises:
        UsageError: a required column is missing, or vl-convert-python is not installed.
    """
    rows, theirs = page_rows(frame), paper_figure_rows(published)
    library, script = vega(), page_script()
    names = _cache_names(rows)
    anchors = _anchors(names)
    colours = {name: number % COLOURS for number, name in enumerate(names)}
    template = environment()
    template.globals["arxiv_link"] = arxiv_link
    return template.get_template("page.html").render(
        caches=[(name, anchors[name], colours[name], cache_facts(name)) for name in names],
        anchors=anchors,
        colours=colours,
        columns=columns_in("page", rows),
        dates=_dates(rows),
        data=embedded(_data(rows, theirs, colours)),
        filters={key: (BY_KEY[key].title.capitalize(), _choices(rows, key)) for key in FILTERS},
        groups=GROUPS,
        hidden=HIDDEN_GROUPS,
        library=library,
        speed_axes=SPEED_AXES,
        policy=policy(library.script, script),
        published=theirs,
        published_figures=FIGURES,
        rows=rows,
        script=script,
        sections=sections(rows),
    )


def _data(rows: list[dict[str, Any]], theirs: list[dict[str, Any]], colours: dict[str, int]) -> dict[str, Any]:
    """What the page's script reads."""
    tips = [column for column in columns_in("page", rows) if column.tip]
    return {
        "measures": [_speed_axis(column) for column in SPEED_AXES],
        "tips": ["run", *(column.title for column in tips), "status"],
        "rows": [
            {
                **{key: row[key] for key in (*FILTERS, "panel", "method", "ranked")},
                "colour": colours[row["cache"]],
                "score": [row[key] for key in BY_KEY["score"].keys],
                "measures": {column.key: _with_ends(column, row) for column in SPEED_AXES},
                "tip": [row["method"], *(str(column.formatted(row)) for column in tips), _standing(row)],
            }
            for row in rows
        ],
        "curves": [curve.plain() for curve in find_curves(rows)],
        "published": theirs,
    }


def _speed_axis(column: Column) -> dict[str, Any]:
    axis = asdict(column.axis) if column.axis else {}
    return {"key": column.key, "label": column.title, "better": column.better, **axis}


def _with_ends(column: Column, row: Row) -> list[float | None]:
    """A value and the ends of its interval, None where there is none."""
    values = [row[key] for key in column.keys]
    return [*values, *[None] * (3 - len(values))]


def _dates(rows: list[dict[str, Any]]) -> str:
    """Dates of the runs: ``, 2026-11-24`` or ``, 2026-11-20 to 2026-11-24``; empty if unknown."""
    days = sorted({row["date"][:10] for row in rows if row["date"]})
    return f", {' to '.join(dict.fromkeys([days[0], days[-1]]))}" if days else ""


def _standing(row: Row) -> str:
    return str(row["status"]) if row["ranked"] else f"{row['status']}, not ranked"


def _cache_names(rows: list[dict[str, Any]]) -> list[str]:
    """Caches of ``rows`` in the registry's order, then others by name."""
    known, found = caches.names(), {row["cache"] for row in rows}
    return [*(name for name in known if name in found), *sorted(found - set(known))]


def _choices(rows: list[dict[str, Any]], key: str) -> list[str]:
    if key == "cache":
        return _cache_names(rows)
    return sorted({row[key] or "" for row in rows})


def _anchors(names: list[str]) -> dict[str, str]:
    """An id per name, without letters that need escaping."""
    anchors: dict[str, str] = {}
    for name in names:
        anchor = base = f"cache-{re.sub('[^A-Za-z0-9_.]+', '-', name)}"
        number = 1
        while anchor in anchors.values():
            number += 1
            anchor = f"{base}-{number}"
        anchors[name] = anchor
    return anchors
