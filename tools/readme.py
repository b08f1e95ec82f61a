"""Write the table of nano-gsm in README.md from results/reference: ``python -m tools.readme``."""

from __future__ import annotations

import csv
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
LEADERBOARD = ROOT / "results" / "reference" / "leaderboard.csv"
_MARKED = re.compile(r"(?<=<!-- nano-gsm -->\n).*?(?=<!-- end -->)", re.DOTALL)


def table() -> str:
    """nano-llada on nano-gsm, one token per forward, the most work first."""
    with LEADERBOARD.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["model"], row["task"]) == ("nano-llada", "nano-gsm")]
    lines = ["| cache | accuracy % [95 %] | speed-up | compute ratio | agreement % |", "|---|---|---|---|---|"]
    for row in sorted((row for row in rows if not row["threshold"]), key=lambda row: -float(row["compute_ratio"])):
        score, low, high, agreement = (
            f"{100 * float(row[key]):.1f}" for key in ("score", "score_low", "score_high", "agreement")
        )
        speed, ratio = float(row["speedup"]), float(row["compute_ratio"])
        lines.append(f"| {row['cache']} | {score} [{low}, {high}] | {speed:.2f} | {ratio:.3f} | {agreement} |")
    return "\n".join([*lines, ""])


def with_table(text: str) -> str:
    """The README with the table of today between its marks."""
    return _MARKED.sub(lambda _: table(), text)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
