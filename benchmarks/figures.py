"""What the figures of the benchmarks share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from evaluation.report.statistics import proportion_interval


def bars(scores: Iterable[float], numbers: Iterable[int]) -> list[list[float]]:
    """Lengths of the 95 % intervals below and above the scores of ``n`` questions, in percentage points."""
    asked = [(score, int(n)) for score, n in zip(scores, numbers, strict=True)]
    pairs = [(score, proportion_interval(round(score * n), n)) for score, n in asked]
    return [[100 * (score - low) for score, (low, _) in pairs], [100 * (high - score) for score, (_, high) in pairs]]


def save(figure: Any, path: Path) -> None:
    """Write a figure; the same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plt.rcParams["svg.hashsalt"] = "cache-zoo"
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
