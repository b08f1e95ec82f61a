"""Sections of the table: the runs of a group, or those of a model and dataset that are not ranked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.report.column_type import Row
from evaluation.report.columns import heading


@dataclass(frozen=True)
class Section:
    """Rows under one heading, numbered in the frame's order; ``text`` is everything else that the runs share."""

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
