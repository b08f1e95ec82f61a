"""Where two generations from one prompt part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cache_zoo.errors import require
from evaluation.trace.recording import Trace


@dataclass(frozen=True)
class Divergence:
    """How two traces differ. Positions count from 0 in the generated part, steps from 1.

    Attributes:
        places: positions whose tokens are not the same in the end.
        length: positions that both have.
        parted: the first step after which the two canvases are not the same; None: there is no such step.
        first: of ``places`` the one that either decided first; None where there are none.
        decided: the steps in which each decided it; None where one left it masked.
    """

    places: list[int]
    length: int
    parted: int | None
    first: int | None
    decided: tuple[int | None, int | None]


def diverge(one: Trace, other: Trace) -> Divergence:
    """Hold two traces against each other.

    Raises:
        UsageError: they are not of one question in one prompt.
    """
    ours, theirs = one.asked, other.asked
    same = (ours.task, ours.row, ours.prompt, ours.ids) == (theirs.task, theirs.row, theirs.prompt, theirs.ids)
    require(same, "the two traces are not of the same question in the same prompt, so they can't be shown side by side")
    pairs = list(zip(one.ids, other.ids, strict=False))
    places = [place for place, (token, another) in enumerate(pairs) if token != another]
    steps = decided_in(one), decided_in(other)
    first = min(places, key=lambda place: min(step.get(place, _NEVER) for step in steps), default=None)
    decided = (None, None) if first is None else (steps[0].get(first), steps[1].get(first))
    return Divergence(places, len(pairs), _parted(one, other, len(pairs)), first, decided)


_NEVER = 1 << 60


def decided_in(trace: Trace) -> dict[int, int]:
    """By position, the step that decided it."""
    return {
        place: number
        for number, step in enumerate(trace.steps, 1)
        for place in step.committed[0].nonzero().flatten().tolist()
    }


def _parted(one: Trace, other: Trace, length: int) -> int | None:
    def canvases(trace: Trace) -> Sequence[list[int]]:
        return [step.canvas[0, :length].tolist() for step in trace.steps]

    ours, theirs = canvases(one), canvases(other)
    for number, (canvas, another) in enumerate(zip(ours, theirs, strict=False), 1):
        if canvas != another:
            return number
    return None if len(ours) == len(theirs) else min(len(ours), len(theirs)) + 1
