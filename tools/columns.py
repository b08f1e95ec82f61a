"""Write the table of columns into docs/leaderboard.md from their registry: ``python -m tools.columns``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from evaluation.report.columns import COLUMNS, SCHEMA_VERSION

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "leaderboard.md"
_MARKERS = "<!-- columns -->", "<!-- end of columns -->"


def render_columns() -> str:
    """The table in Markdown, a row per column of the CSV."""
    lines = [f"`schema_version` is {SCHEMA_VERSION}.", "", "| column | unit | |", "|---|---|---|"]
    for column in COLUMNS:
        meanings = (column.meaning, "lower end of its 95 % interval", "upper end of its 95 % interval")
        if column.kind:
            lines += [f"| `{key}` | {column.unit} | {text} |" for key, text in zip(column.keys, meanings, strict=False)]
    return "\n".join(lines)


def with_columns(text: str) -> str:
    """``text`` with the table between its markers."""
    start, end = map(re.escape, _MARKERS)
    table = f"{_MARKERS[0]}\n{render_columns()}\n{_MARKERS[1]}"
    return re.sub(f"{start}.*{end}", lambda _: table, text, flags=re.DOTALL)


def main() -> int:
    """Rewrite the document."""
    DOCUMENT.write_text(with_columns(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
