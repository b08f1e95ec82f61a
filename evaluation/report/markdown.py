"""The leaderboard as Markdown: a section per model and task, ranked runs first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pandas as pd

from cache_zoo.errors import visible
from evaluation.report.column_type import MISSING, Column, Row
from evaluation.report.columns import BY_KEY, columns_in, grouped, heading, plain_rows
from evaluation.report.descriptions import folder_link
from evaluation.report.paper_figures import FIGURES, paper_figure_rows

_INTRODUCTION = """# Leaderboard

Made from run folders by `cache-zoo leaderboard`; docs/leaderboard.md explains the columns, RULES.md what is
ranked. Each table holds runs of one setting on one machine, which differ in nothing but the method: cache, suffix and
store. Intervals are 95 %. Difference, p (McNemar's, adjusted by Holm over the table), agreement and speed-up are
against the baseline, `none` with all columns, question by question. An interval of the difference that contains 0 means
that these questions can't tell the two apart. *Same work*: both recomputed everything and generated the same tokens, so
there is no speed-up. Programs read leaderboard.csv.
"""
_PUBLISHED_NOTE = (
    "Figures of the papers and their repositories, as their authors print them: other code, hardware and counting than "
    "here, so not ranked and not comparable."
)
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
# An underscore within a word is no markup. Bare addresses become links.
_MARKUP = re.compile(r"[\\\\`*\[\]|~#@$^<>&]|(?<!\w)_|_(?!\w)|:(?=//|\w)|(?<=www)\.", re.IGNORECASE)
CellFormatter = Callable[[Row], str]


def render_markdown(frame: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The whole document.

    Args:
        frame: of `evaluation.report.rows.read_rows`, in its order.
        published: figures of papers, as in ``paper_figures.csv``; None: none are shown.
    """
    parts = [f"{_INTRODUCTION}\n{len(frame)} runs, {int(frame['ranked'].sum())} of them ranked."]
    others = paper_figure_rows(published)
    for (model, task), rows in grouped(plain_rows(frame), "model", "task").items():
        parts.append(f"## {_text(model)}, {_text(task)}")
        for group in grouped([row for row in rows if row["ranked"]], "group").values():
            parts += [_heading(group[0]), _table(_RANKED, group)]
        if unranked := [row for row in rows if not row["ranked"]]:
            parts += ["Not ranked:", _table(_UNRANKED, unranked)]
        section = (model, str(task).removesuffix("_instruct"))
        if theirs := [row for row in others if (row["model"], row["task"]) == section]:
            parts += [f"Published. {_PUBLISHED_NOTE}", _table(_PUBLISHED, theirs)]
            others = [row for row in others if (row["model"], row["task"]) != section]
    if others:
        parts += ["## Published figures of models and tasks without a run here", _PUBLISHED_NOTE]
        parts.append(_table({"model": _word("model"), "task": _word("task"), **_PUBLISHED}, others))
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """``text`` as one line of Markdown text: no markup, no HTML, no link, no mention."""
    return _MARKUP.sub(lambda sign: _ENTITIES.get(sign[0], f"\\{sign[0]}"), " ".join(visible(text).split()))


def table_text(titles: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, of escaped texts."""
    titles = list(titles)
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, ["---"] * len(titles), *rows))


def _heading(row: Row) -> str:
    """What the runs of a group share."""
    words = [_text(word) for word in heading(row)]
    return " · ".join([*(f"**{decoder}**" for decoder in words[:1]), *words[1:]])


def _table(columns: dict[str, CellFormatter], rows: Sequence[Row]) -> str:
    method = [BY_KEY[key] for key in ("suffix", "suffix_parameters", "store")]
    left_out = {column.title for column in method if column.title in columns and not column.is_shown(rows)}
    shown = {title: cell for title, cell in columns.items() if title not in left_out}
    return table_text(shown, ([cell(row) for cell in shown.values()] for row in rows))


def _text(value: str | None) -> str:
    return escaped(value) if value else MISSING


def _word(key: str) -> CellFormatter:
    return lambda row: _text(row[key])


def _optional(key: str) -> CellFormatter:
    return lambda row: escaped(row[key] or "")


def _run(row: Row) -> str:
    return f"[{_text(row['config_hash'] or 'run')}]({folder_link(row['folder'])})"


def _decoder(row: Row) -> str:
    words = [_text(row["decoder"]), _text(row["decoder_settings"])]
    return " ".join(words if row["threshold"] is None else [*words, f"threshold={row['threshold']:g}"])


def _figure(column: Column) -> CellFormatter:
    return lambda row: str(column.formatted(row))


def _published_figure(column: Column) -> CellFormatter:
    """With all digits of the paper."""
    plain = replace(column, form="g", flag=None, interval=False)
    return lambda row: plain.write(row[column.key])


_METHOD: dict[str, CellFormatter] = {
    "cache": _word("cache"),
    "parameters": _optional("cache_parameters"),
    "suffix": _word("suffix"),
    "suffix parameters": _optional("suffix_parameters"),
    "store": _word("store"),
}
_RANKED: dict[str, CellFormatter] = {
    **_METHOD,
    **{column.title: _figure(column) for column in columns_in("ranked")},
    "run": _run,
}
_UNRANKED: dict[str, CellFormatter] = {
    **_METHOD,
    "decoder": _decoder,
    "status": _word("status"),
    **{column.title: _figure(column) for column in columns_in("unranked")},
    "note": _optional("note"),
    "run": _run,
}
_PUBLISHED: dict[str, CellFormatter] = {
    "paper": lambda row: f"[{_text(row['paper'])}](https://arxiv.org/abs/{_text(row['arxiv'])})",
    "method": _word("method"),
    **{column.title: _published_figure(column) for column in FIGURES},
    "hardware": _word("hardware"),
    "source": _word("table"),
    "note": _optional("note"),
}
