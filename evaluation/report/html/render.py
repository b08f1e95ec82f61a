"""The page as text: facts gathered in Python, laid out by a template, drawn by a small script."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from cache_zoo import caches
from evaluation.report.html.columns import COLUMNS, GROUPS, HIDDEN_AT_FIRST, Row
from evaluation.report.html.curves import find_curves
from evaluation.report.html.facts import arxiv_link, cache_facts
from evaluation.report.html.frame import embedded, environment, policy
from evaluation.report.html.measures import MEASURES
from evaluation.report.html.published import Figure, figures
from evaluation.report.html.rows import plain_rows
from evaluation.report.html.script import page_script, vega
from evaluation.report.html.sections import sections

COLOURS = 10
"""Colours that the style sheet has; further caches begin again."""
FILTERS = {
    "model": "Model",
    "task": "Dataset",
    "cache": "Cache",
    "decoding": "Decoding",
    "status": "Status",
    "hardware": "Hardware",
}


def render_page(frame: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """``leaderboard.html``, from nothing but its arguments and what the registry says about the caches.

    Args:
        frame: one row per run, with the columns of leaderboard.csv; scores are shares. Rows that are not ``ranked`` are
            shown, marked, sorted behind all others and left out of fronts.
        published: figures of papers, with ``paper``, ``arxiv``, ``table``, ``model``, ``task``, ``method``, ``score``,
            ``tokens_per_second``, ``speedup``, ``hardware``, ``note``.

    Returns:
        The page. The same arguments give the same text.

    Raises:
        UsageError: a needed column is missing, or vl-convert-python is not installed.
    """
    rows = plain_rows(frame)
    theirs = figures(published)
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
        columns=COLUMNS,
        dates=_dates(rows),
        data=embedded(_data(rows, theirs, colours)),
        filters={key: (title, _choices(rows, key)) for key, title in FILTERS.items()},
        groups=GROUPS,
        hidden=HIDDEN_AT_FIRST,
        library=library,
        measures=MEASURES,
        policy=policy(library.script, script),
        published=theirs,
        rows=rows,
        script=script,
        sections=sections(rows),
    )


def _data(rows: list[dict[str, Any]], theirs: list[Figure], colours: dict[str, int]) -> dict[str, Any]:
    """What the page's script reads."""
    tips = [column for column in COLUMNS if column.tip]
    return {
        "measures": [measure.plain() for measure in MEASURES],
        "tips": ["run", *(column.title for column in tips), "status"],
        "rows": [
            {
                **{key: row[key] for key in (*FILTERS, "panel", "method", "ranked")},
                "colour": colours[row["cache"]],
                "score": [row[key] for key in ("score", "score_low", "score_high")],
                "measures": {measure.key: measure.of(row) for measure in MEASURES},
                "tip": [row["method"], *(str(column.cell(row)) for column in tips), _standing(row)],
            }
            for row in rows
        ],
        "curves": [curve.plain() for curve in find_curves(rows)],
        "published": [figure.plain() for figure in theirs],
    }


def _dates(rows: list[dict[str, Any]]) -> str:
    """When the runs were: ``, 2026-11-24`` or ``, 2026-11-20 to 2026-11-24``; empty where no row says."""
    days = sorted({row["date"][:10] for row in rows if row["date"]})
    return f", {' to '.join(dict.fromkeys([days[0], days[-1]]))}" if days else ""


def _standing(row: Row) -> str:
    return str(row["status"]) if row["ranked"] else f"{row['status']}, not ranked"


def _cache_names(rows: list[dict[str, Any]]) -> list[str]:
    """Caches of ``rows``: in the registry's order, then others by name."""
    known, found = caches.names(), {row["cache"] for row in rows}
    return [*(name for name in known if name in found), *sorted(found - set(known))]


def _choices(rows: list[dict[str, Any]], key: str) -> list[str]:
    if key == "cache":
        return _cache_names(rows)
    return sorted({row[key] or "" for row in rows})


def _anchors(names: list[str]) -> dict[str, str]:
    """An id per name, of letters that need no escaping anywhere."""
    anchors: dict[str, str] = {}
    for name in names:
        anchor = base = f"cache-{re.sub('[^A-Za-z0-9_.]+', '-', name)}"
        number = 1
        while anchor in anchors.values():
            number += 1
            anchor = f"{base}-{number}"
        anchors[name] = anchor
    return anchors
