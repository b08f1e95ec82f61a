"""The leaderboard from run folders: ``cache-zoo leaderboard results/``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cache_zoo import UsageError
from cache_zoo.arguments import positional, read
from cache_zoo.errors import DONE, refusing, visible
from evaluation.report.columns import CSV_TYPES
from evaluation.report.html import render_page
from evaluation.report.markdown import render_markdown
from evaluation.report.paper_figures import read_paper_figures
from evaluation.report.rows import read_rows
from evaluation.storage.files import check_place, write_text
from evaluation.storage.find_runs import find_runs

# signs that start a formula, with their wide forms
_FORMULA = re.compile(r"(^\s*|;\s*)([=+\-@\uff1d\uff0b\uff0d\uff20])")
FILES = ("leaderboard.csv", "leaderboard.md", "leaderboard.html")


def make_leaderboard(folders: list[Path], out: Path, published: bool = False) -> pd.DataFrame:
    """Write ``leaderboard.csv``, ``.md`` and ``.html`` into ``out``: the same runs give the same bytes.

    Args:
        folders: run folders, or folders that contain them at any depth.
        out: output folder, created if missing; links to the runs are relative to it.
        published: show the figures of papers beside ours, but not in the CSV.

    Returns:
        The content of the CSV (see `evaluation.report.rows.read_rows`).

    Raises:
        UsageError: there are no runs, or ``out`` is not writable.
    """
    runs = find_runs(folders, name_from=out)
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        check_place(out / name)
    frame = read_rows(runs)
    theirs = read_paper_figures() if published else None
    texts = (render_csv(frame), render_markdown(frame, theirs), render_page(frame, theirs))
    with _writing(out):
        for name, text in zip(FILES, texts, strict=True):
            write_text(out / name, text)
    return frame


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{out} can't be written to: {error.strerror}") from error


def render_csv(frame: pd.DataFrame) -> str:
    """The interface for programs: UTF-8, six digits, ``true`` and ``false``, empty cells for missing values."""
    cells = {
        name: frame[name].map({True: "true", False: "false"} if kind == "boolean" else plain_text)
        for name, kind in CSV_TYPES.items()
        if kind in ("boolean", "object")
    }
    return str(frame.assign(**cells).to_csv(index=False, lineterminator="\n", float_format="%.6g"))


def plain_text(value: Any) -> Any:
    """Keep spreadsheets from running a text: an apostrophe before a sign that starts a formula.

    The sign may follow blanks, or a semicolon, which starts a cell in some spreadsheets.
    """
    return _FORMULA.sub(r"\1'\2", visible(value)) if isinstance(value, str) else value


@dataclass(frozen=True)
class LeaderboardOptions:
    """Write the leaderboard of run folders as leaderboard.csv, .md and .html.

    `cache-zoo check` validates a folder before it is added.

    Attributes:
        folders: run folders, or folders that contain them at any depth.
        out: folder of the files (default: the first of the folders).
        published: show the papers' own figures beside ours, marked as theirs.
    """

    folders: list[Path] = positional([Path("results")])
    out: Path | None = None
    published: bool = False


@refusing
def main() -> int:
    """Write the leaderboard and return the exit status."""
    options = read(LeaderboardOptions, "cache-zoo leaderboard")
    out = options.out or options.folders[0]
    frame = make_leaderboard(options.folders, out, options.published)
    print(f"{len(frame)} runs, {int(frame['ranked'].sum())} of them ranked")
    for name in FILES:
        print(out / name)
    return DONE
