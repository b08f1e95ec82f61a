"""Write the table of nano-gsm in README.md from results/reference: ``python -m tools.readme``."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from evaluation.report.columns import BY_KEY, plain_rows

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
LEADERBOARD = ROOT / "results" / "reference" / "leaderboard.csv"
_MARKED = re.compile(r"(?<=<!-- nano-gsm -->\n).*?(?=<!-- end -->)", re.DOTALL)


def table() -> str:
    """nano-llada on nano-gsm, one token per forward, the most work first."""
    columns = [BY_KEY[key] for key in ("cache", "score", "speedup", "compute_ratio", "agreement")]
    rows = [
        row
        for row in plain_rows(pd.read_csv(LEADERBOARD))
        if (row["model"], row["task"], row["threshold"]) == ("nano-llada", "nano-gsm", None)
    ]
    lines = [[column.table_title for column in columns], ["---"] * len(columns)]
    for row in sorted(rows, key=lambda row: row["compute_ratio"], reverse=True):
        lines.append([column.table_text(row) for column in columns])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def with_table(text: str) -> str:
    """The README with the table of today between its marks."""
    return _MARKED.sub(lambda _: table(), text)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
