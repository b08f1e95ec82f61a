"""Frames of the leaderboard for the tests of its page, and helpers to read the page in a browser.

``data/leaderboard.csv`` has runs of nano-llada and nano-dream on the first 60 questions of nano-gsm and the first 40 of
nano-code, two of a part of nano-gsm, and five edited rows: failed, oom, skipped, partial and running.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

FIXTURE = Path(__file__).parent / "data" / "leaderboard.csv"
PUBLISHED = pd.DataFrame(
    {
        "paper": ["A paper"],
        "arxiv": ["0000.00000"],
        "table": ["table 1"],
        "model": ["nano-llada"],
        "task": ["nano-gsm"],
        "method": ["their cache"],
        "score": [0.8],
        "tokens_per_second": [50.0],
        "speedup": [4.5],
        "hardware": ["their machine"],
        "note": [None],
    }
)

Opener = Callable[..., "Page"]


def frame() -> pd.DataFrame:
    return pd.read_csv(FIXTURE, dtype={"config_hash": str})


def made(**columns: Any) -> pd.DataFrame:
    """Rows of runs of one cell with the given changes."""
    count = len(next(iter(columns.values())))
    same = {"model": "m", "task": "t", "cache": "c", "status": "done", "ranked": True, "score": 0.5, "n": 10}
    return pd.DataFrame({**{key: [value] * count for key, value in same.items()}, **columns})


def drawn(page: Page) -> None:
    """Wait until all charts are drawn."""
    page.wait_for_timeout(50)  # a change is answered in the next turn of the page
    for gallery in ("#front-panels", "#curve-panels"):
        page.wait_for_selector(f"{gallery}[data-drawn=yes]", state="attached")


def rows(page: Page) -> Locator:
    return page.locator("#runs tbody tr[data-row]:visible")


def heads(page: Page) -> list[str]:
    """Titles of the visible sections."""
    titles = page.locator("#runs .section:visible div").evaluate_all(
        "all => all.map(one => one.firstChild.textContent)"
    )
    return [title.strip() for title in titles]


def mix(page: Page) -> None:
    """Take the sections away."""
    page.locator("#together input").uncheck()


def column(page: Page, key: str, which: str = "tr[data-row]") -> list[str]:
    """Texts of a column in the visible rows, without intervals."""
    index = page.locator(f"#runs thead [data-key={key}]").evaluate("cell => cell.cellIndex")
    texts = page.locator(f"#runs tbody {which}:visible").evaluate_all(
        "(rows, index) => rows.map(row => row.cells[index].firstChild?.textContent.trim() ?? '')", index
    )
    return list(texts)
