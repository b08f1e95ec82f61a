"""The columns of the table on the page, and how a figure is written in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from evaluation.report.compare import SAME_WORK

Row = Mapping[str, Any]
MISSING = "N/A"

GROUPS = {
    "quality": "Quality",
    "speed": "Speed",
    "work": "Work",
    "memory": "Memory",
    "setting": "Setting",
    "origin": "Origin",
}
"""Groups of columns that can be shown and hidden, by their names."""
HIDDEN_AT_FIRST = ("setting", "origin")


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: of the frame; `low` and `high` are the ends of its 95 % interval there, where it has one.
        title, help: what the reader sees, and what it means.
        group: one of `GROUPS`; empty: always shown.
        form: how a number is written; empty for text.
        scale: what a number is multiplied with before.
        better: which end is shown first when sorted.
        tip: shown beside a point of a chart.
        bar: the interval is drawn, between 0 and 1.
        shared: the head of a section of the table says it, too.
    """

    key: str
    title: str
    help: str
    group: str = ""
    form: str = ""
    scale: float = 1
    low: str = ""
    high: str = ""
    better: Literal["more", "less", "first"] = "first"
    tip: bool = False
    bar: bool = False
    shared: bool = False

    def cell(self, row: Row) -> Cell:
        """What ``row`` says here."""
        value = row[self.key]
        if self.key == "speedup" and row["same_work"]:
            return Cell(SAME_WORK, None)
        if value is None:
            return Cell(MISSING if self.form else "", None)
        if not self.form:
            return Cell(str(value), str(value))
        ends = [row[key] for key in (self.low, self.high) if key and row[key] is not None]
        interval = f"[{', '.join(self._written(end) for end in ends)}]" if len(ends) == 2 else ""
        bar = (value, *ends) if self.bar and interval and all(0 <= x <= 1 for x in (value, *ends)) else None
        return Cell(self._written(value), value, interval, bar)

    def _written(self, value: Any) -> str:
        scaled = value * self.scale if isinstance(value, int | float) else math.nan
        return format(scaled, self.form) if math.isfinite(scaled) else str(value)


@dataclass(frozen=True)
class Cell:
    """One figure: how it is written, what it is sorted by (None: last), its interval, and both as shares of a bar."""

    text: str
    value: Any
    interval: str = ""
    bar: tuple[float, float, float] | None = None

    def __str__(self) -> str:
        return f"{self.text} {self.interval}".rstrip()


COLUMNS = (
    Column("model", "model", "model", shared=True),
    Column("task", "dataset", "dataset", shared=True),
    Column(
        "decoding",
        "decoding",
        "how tokens are decided: strategy, and settings, batch, seed and dtype where they differ between runs",
        tip=True,
        shared=True,
    ),
    Column("n", "n", "questions asked; of how many, where it was not all of them", "quality", ".0f", better="more"),
    Column(
        "empty_answers",
        "empty",
        "answers without any text",
        "quality",
        ".0f",
        better="less",
    ),
    Column(
        "score",
        "score %",
        "share of questions solved, with its 95 % interval",
        "quality",
        ".1f",
        100,
        "score_low",
        "score_high",
        "more",
        tip=True,
        bar=True,
    ),
    Column(
        "diff",
        "difference",
        "points above (below) the same run without a cache, paired, with its 95 % interval",
        "quality",
        "+.1f",
        100,
        "diff_low",
        "diff_high",
        "more",
        tip=True,
    ),
    Column(
        "p_holm",
        "p (Holm)",
        "McNemar's p of that difference, corrected for the caches of the table",
        "quality",
        ".3g",
        better="less",
    ),
    Column(
        "speedup",
        "speed-up",
        "times as fast as the same run without a cache on the same machine, with its 95 % interval; same work: "
        "both ran everything and came to the same tokens, so that seconds tell nothing of the cache",
        "speed",
        ".2f",
        1,
        "speedup_low",
        "speedup_high",
        "more",
        tip=True,
    ),
    Column(
        "tokens_per_second",
        "tokens/s",
        "tokens of the answers per second; compare within one machine only",
        "speed",
        ".1f",
        better="more",
        tip=True,
    ),
    Column(
        "agreement",
        "agreement %",
        "tokens that are the same as without a cache",
        "quality",
        ".1f",
        100,
        better="more",
        tip=True,
    ),
    Column(
        "exact_agreement",
        "same answers %",
        "answers that are the same token by token",
        "quality",
        ".1f",
        100,
        better="more",
    ),
    Column(
        "compute_ratio",
        "compute ratio",
        "rows run, as a share of full recomputation in the same forwards",
        "work",
        ".3f",
        better="less",
        tip=True,
    ),
    Column(
        "tokens_per_forward",
        "tokens/forward",
        "tokens of the answer per forward",
        "work",
        ".2f",
        better="more",
        tip=True,
    ),
    Column("nfe", "NFE", "forwards per answer", "work", ".1f", better="less", tip=True),
    Column(
        "flops_per_token",
        "FLOPs/token",
        "floating-point operations of all matrix products, per token of the answer",
        "work",
        ".2e",
        better="less",
    ),
    Column("latency_median", "median s", "median seconds of a batch of prompts", "speed", ".3g", better="less"),
    Column("latency_p90", "p90 s", "nine of ten batches take at most so many seconds", "speed", ".3g", better="less"),
    Column("cache_mb", "cache MB", "what the cache held at most", "memory", ".1f", better="less"),
    Column("peak_mb", "peak MB", "what the device held at most", "memory", ".0f", better="less"),
    Column("metric", "metric", "metric of the score", "setting"),
    Column("p", "p", "the same, not corrected", "setting", ".3g", better="less"),
    Column("n_shot", "shots", "examples in the prompt", "setting", ".0f"),
    Column("batch_size", "batch", "prompts decoded together", "setting", ".0f"),
    Column("gen_length", "length", "positions to fill", "setting", ".0f"),
    Column("block_length", "block", "positions of a block", "setting", ".0f"),
    Column("threshold", "threshold", "confidence from which a token is decided", "setting", "g"),
    Column("num_transfer_tokens", "tokens/step", "tokens that a forward decides at least", "setting", ".0f"),
    Column("steps", "steps", "forwards planned for the whole canvas", "setting", ".0f"),
    Column("decoder_settings", "other settings", "of the decoding", "setting"),
    Column("seed", "seed", "of everything random", "setting", ".0f"),
    Column("dtype", "dtype", "number format of the weights", "setting"),
    Column("hardware", "hardware", "machine that the clock ran on", "origin", tip=True),
    Column("device", "device", "device of the weights", "origin"),
    Column("torch", "torch", "version", "origin"),
    Column("transformers", "transformers", "version", "origin"),
    Column("cache_package", "package", "package that the cache comes with, if it is not cache-zoo", "origin"),
    Column("cache_zoo", "cache-zoo", "version", "origin"),
    Column("commit", "commit", "commit of cache-zoo; + : with changes that are in none", "origin"),
    Column("date", "date", "end of the run, UTC", "origin"),
    Column("config_hash", "hash", "of the resolved configuration", "origin"),
)
"""All columns but the cache, the status and the link to the run, which stand beside them."""
