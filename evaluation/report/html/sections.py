"""Sections of the table: the runs of a group, or those of a model and dataset that are not ranked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.report.column_type import Row
from evaluation.report.columns import heading


@dataclass(frozen=True)
class Section:
    """Rows under one heading.

    Attributes:
        title: model, dataset and decoding, or that the runs are not ranked.
        text: everything else that the runs share.
        rows: number and row of each run, in the frame's order.
    """

    title: str
    text: str
    rows: list[tuple[int, Row]]


def sections(rows: Sequence[Row]) -> list[Section]:
    """Rows by group, in the order of the first of each section."""
    found: dict[tuple[str | None, ...], list[tuple[int, Row]]] = defaultdict(list)
    for number, row in enumerate(rows):
        group = (row["group"] or f"{row['decoding']} {row['hardware']}") if row["ranked"] else None
        found[row["model"], row["task"], group].append((number, row))
    return [_section(members) for members in found.values()]


def _section(members: list[tuple[int, Row]]) -> Section:
    _, row = members[0]
    words = [row["model"], row["task"], row["decoding"] if row["ranked"] else "not ranked"]
    title = " · ".join(word for word in words if word)
    return Section(title, " · ".join(heading(row)) if row["ranked"] else "", members)
