"""What the charts put on their speed axis."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from evaluation.report.html.columns import Row


@dataclass(frozen=True)
class Measure:
    """One choice of the speed axis.

    Attributes:
        key: column of the frame, with `low` and `high` where it has an interval.
        label: of the choice. `title`: of the axis.
        better: which end is better; the better end is always drawn to the right.
        timed: seconds are in it, so that only runs of one machine can be compared.
        relative: it is against full recomputation with the same decoding, so that only runs of one can be compared.
        even: value at which nothing is gained, drawn as a line.
        form: how d3 writes it.
    """

    key: str
    label: str
    title: str
    better: str
    timed: bool = False
    relative: bool = False
    form: str = "~g"
    low: str = ""
    high: str = ""
    even: float | None = None

    def of(self, row: Row) -> list[Any]:
        """Value and ends of the interval of ``row``, each None where there is none."""
        return [row.get(key) if key else None for key in (self.key, self.low, self.high)]

    def plain(self) -> dict[str, Any]:
        """What the page's script reads."""
        return asdict(self)


MEASURES = (
    Measure(
        "speedup",
        "speed-up",
        "times as fast as without a cache, same decoding",
        "more",
        timed=True,
        relative=True,
        low="speedup_low",
        high="speedup_high",
        even=1,
    ),
    Measure("tokens_per_second", "tokens/s", "tokens per second", "more", timed=True, form="~s"),
    Measure(
        "compute_ratio",
        "compute ratio",
        "rows run, share of full recomputation",
        "less",
        relative=True,
        even=1,
    ),
    Measure(
        "tokens_per_forward", "tokens/forward", "tokens per forward", "more", timed=False, relative=False, form="~g"
    ),
    Measure("nfe", "NFE", "forwards per answer", "less", timed=False, relative=False, form="~g"),
)
"""The first one is shown at first."""
