"""Write the tables of README.md and docs/leaderboard.md from their sources: ``python -m tools.tables``."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from evaluation.report.columns import BY_KEY, COLUMNS, SCHEMA_VERSION, plain_rows

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
LEADERBOARD = ROOT / "results" / "reference" / "leaderboard.csv"


def nano_gsm_table() -> str:
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


def columns_table() -> str:
    """A row per column of the CSV."""
    lines = [f"`schema_version` is {SCHEMA_VERSION}.", "", "| column | unit | |", "|---|---|---|"]
    for column in COLUMNS:
        meanings = (column.meaning, "lower end of its 95 % interval", "upper end of its 95 % interval")
        if column.kind:
            lines += [f"| `{key}` | {column.unit} | {text} |" for key, text in zip(column.keys, meanings, strict=False)]
    return "".join(f"{line}\n" for line in lines)


TABLES = {"nano-gsm": (README, nano_gsm_table), "columns": (ROOT / "docs" / "leaderboard.md", columns_table)}
"""By the name in its mark: the document and what makes the table."""


def with_table(text: str, name: str) -> str:
    """A document with the table ``name`` of today between its marks."""
    return re.sub(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end -->)", lambda _: TABLES[name][1](), text, flags=re.DOTALL)


if __name__ == "__main__":
    for name, (document, _) in TABLES.items():
        document.write_text(with_table(document.read_text(encoding="utf-8"), name), encoding="utf-8")
