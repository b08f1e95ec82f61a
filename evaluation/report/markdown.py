"""The leaderboard as Markdown: one section per model and task, ranked runs first, all others below."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import pandas as pd

from cache_zoo.errors import visible
from evaluation.report.compare import SAME_WORK
from evaluation.report.headings import heading

NOT_AVAILABLE = "N/A"
_HEAD = """# Leaderboard

Made from run folders by `cache-zoo leaderboard`; docs/leaderboard.md explains the columns, RULES.md what is
ranked. Each table holds runs of one setting on one machine, which differ in nothing but the cache. Intervals are 95 %.
Difference, p (McNemar's, adjusted by Holm over the table), agreement and speed-up are against `none`, question by
question. An interval of the difference that holds 0 says that these questions can't tell the two apart. *Same work*:
both recomputed everything and came to the same tokens, so there is no speed-up to tell. Programs read leaderboard.csv.
"""
_THEIRS = (
    "Figures of the papers and their repositories, as their authors print them: other code, hardware and counting than "
    "here, so not ranked and not comparable."
)
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
# A line below a word is no markup. Addresses are links of their own where they stand as they are.
_MARKUP = re.compile(r"[\\\\`*\[\]|~#@$^<>&]|(?<!\w)_|_(?!\w)|:(?=//|\w)|(?<=www)\.", re.IGNORECASE)
Cell = Callable[[Any], str]


def render_markdown(frame: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The whole document.

    Args:
        frame: of `evaluation.report.rows.read_rows`, in its order.
        published: figures of papers, as in ``published.csv``; None: none are shown.
    """
    counts = f"{len(frame)} runs, {int(frame['ranked'].sum())} of them ranked."
    parts = [f"{_HEAD}\n{counts}"]
    shown = pd.Series(False, index=None if published is None else published.index)
    for (model, task), section in frame.groupby(["model", "task"], sort=False, dropna=False):
        parts.append(f"## {_text(model)}, {_text(task)}")
        ranked = section[section["ranked"]]
        for _, group in ranked.groupby("group", sort=False):
            parts += [_heading(group.iloc[0]), _table(_RANKED, group)]
        rest = section[~section["ranked"]]
        if len(rest):
            parts += ["Not ranked:", _table(_UNRANKED, rest)]
        if published is not None:
            ours = (published["model"] == model) & (published["task"] == str(task).removesuffix("_instruct"))
            shown |= ours
            if ours.any():
                parts += [f"Published. {_THEIRS}", _table(_PUBLISHED, published[ours])]
    if published is not None and not shown.all():
        parts += ["## Published figures of models and tasks without a run here", _THEIRS]
        parts.append(_table(_PUBLISHED_OTHERS, published[~shown]))
    return "\n\n".join(parts) + "\n"


def _heading(row: pd.Series) -> str:
    """What the runs of a group share."""
    words = [_text(word) for word in heading(row)]
    return " · ".join([*(f"**{decoder}**" for decoder in words[:1]), *words[1:]])


def _table(columns: dict[str, Cell], rows: pd.DataFrame) -> str:
    lines: list[Sequence[str]] = [list(columns), ["---"] * len(columns)]
    lines += [[cell(row) for cell in columns.values()] for _, row in rows.iterrows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    """``text`` of a run as text of Markdown: in one line, no markup, no HTML, no link, nobody mentioned."""
    return _MARKUP.sub(_escape, " ".join(visible(text).split()))


def _escape(sign: re.Match[str]) -> str:
    return _ENTITIES.get(sign[0], f"\\{sign[0]}")


def _text(value: Any) -> str:
    return NOT_AVAILABLE if pd.isna(value) or value == "" else escaped(str(value))


def _address(folder: str) -> str:
    """A folder from here, which a dot keeps one if it is called like a scheme."""
    return f"./{quote(folder.strip('/'), safe='/')}"


def _word(key: str) -> Cell:
    return lambda row: _text(row[key])


def _number(key: str, form: str, scale: float = 1) -> Cell:
    def cell(row: Any) -> str:
        return NOT_AVAILABLE if pd.isna(row[key]) else format(row[key] * scale, form)

    return cell


def _interval(key: str, form: str, scale: float = 1) -> Cell:
    def cell(row: Any) -> str:
        value, low, high = (_number(f"{key}{end}", form, scale)(row) for end in ("", "_low", "_high"))
        return value if NOT_AVAILABLE in (low, high) else f"{value} [{low}, {high}]"

    return cell


def _speed_up(row: Any) -> str:
    return SAME_WORK if row["same_work"] is True else _interval("speedup", ".2f")(row)


def _run(row: Any) -> str:
    return f"[{_text(row['config_hash'] if not pd.isna(row['config_hash']) else 'run')}]({_address(row['folder'])})"


def _settings(row: Any) -> str:
    words = [row["decoder"], row["decoder_settings"], f"threshold={row['threshold']:g}"]
    return " ".join(_text(word) for word in (words[:2] if pd.isna(row["threshold"]) else words))


def _count(row: Any) -> str:
    n, total = _number("n", "d")(row), _number("items_total", "d")(row)
    return n if n == total else f"{n}/{total}"


_RANKED: dict[str, Cell] = {
    "cache": _word("cache"),
    "parameters": lambda row: "" if pd.isna(row["cache_parameters"]) else _text(row["cache_parameters"]),
    "score %": _interval("score", ".1f", 100),
    "difference, points": _interval("diff", "+.1f", 100),
    "p (Holm)": _number("p_holm", ".3g"),
    "agreement %": _number("agreement", ".1f", 100),
    "same answers %": _number("exact_agreement", ".1f", 100),
    "tokens/s": _number("tokens_per_second", ".1f"),
    "speed-up": _speed_up,
    "median s": _number("latency_median", ".3g"),
    "NFE": _number("nfe", ".1f"),
    "tokens/forward": _number("tokens_per_forward", ".2f"),
    "compute ratio": _number("compute_ratio", ".3f"),
    "cache MB": _number("cache_mb", ".1f"),
    "run": _run,
}
_UNRANKED: dict[str, Cell] = {
    "cache": _word("cache"),
    "parameters": _RANKED["parameters"],
    "decoder": _settings,
    "status": _word("status"),
    "n": _count,
    "score %": _RANKED["score %"],
    "difference, points": _RANKED["difference, points"],
    "agreement %": _RANKED["agreement %"],
    "tokens/s": _RANKED["tokens/s"],
    "speed-up": _RANKED["speed-up"],
    "note": lambda row: "" if pd.isna(row["note"]) else _text(row["note"]),
    "run": _run,
}
_PUBLISHED: dict[str, Cell] = {
    "paper": lambda row: f"[{_text(row['paper'])}](https://arxiv.org/abs/{_text(row['arxiv'])})",
    "method": _word("method"),
    "score %": _number("score", "g", 100),
    "tokens/s": _number("tokens_per_second", "g"),
    "speed-up": _number("speedup", "g"),
    "hardware": _word("hardware"),
    "source": _word("table"),
    "note": lambda row: "" if pd.isna(row["note"]) else _text(row["note"]),
}
_PUBLISHED_OTHERS: dict[str, Cell] = {"model": _word("model"), "task": _word("task"), **_PUBLISHED}
