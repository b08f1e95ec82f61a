"""Where two generations from the same prompt diverge."""

from __future__ import annotations

from dataclasses import dataclass

from cache_zoo.errors import require
from evaluation.trace.recording import Trace


@dataclass(frozen=True)
class Divergence:
    """How two traces differ. Positions count from 0 in the generation, steps from 1.

    Attributes:
        positions: those whose final tokens differ.
        length: number of positions that both have.
        first_step: the first step after which the canvases differ; None if they never do.
        first_position: the one of ``positions`` that was committed first; None if there are none.
        committed_in: the step in which each trace committed it; None if it stayed masked.
    """

    positions: list[int]
    length: int
    first_step: int | None
    first_position: int | None
    committed_in: tuple[int | None, int | None]


def diverge(ours: Trace, theirs: Trace) -> Divergence:
    """Compare two traces.

    Raises:
        UsageError: they are not of the same question in the same prompt.
    """
    questions = [(one.prompt.task, one.prompt.row, one.prompt.text, one.prompt.ids) for one in (ours, theirs)]
    require(questions[0] == questions[1], "two traces need the same question in the same prompt")
    pairs = list(zip(ours.ids, theirs.ids, strict=False))
    positions = [position for position, (token, other) in enumerate(pairs) if token != other]
    steps = commit_steps(ours), commit_steps(theirs)
    masked = max(len(ours.steps), len(theirs.steps)) + 1  # later than every step
    first = min(positions, key=lambda position: min(step.get(position, masked) for step in steps), default=None)
    committed_in = (None, None) if first is None else (steps[0].get(first), steps[1].get(first))
    return Divergence(positions, len(pairs), _first_step(ours, theirs, len(pairs)), first, committed_in)


def commit_steps(trace: Trace) -> dict[int, int]:
    """By position, the step that committed it."""
    return {
        position: number
        for number, step in enumerate(trace.steps, 1)
        for position in step.committed[0].nonzero().flatten().tolist()
    }


def _first_step(ours: Trace, theirs: Trace, length: int) -> int | None:
    canvases = [[step.canvas[0, :length].tolist() for step in trace.steps] for trace in (ours, theirs)]
    for number, (canvas, other) in enumerate(zip(*canvases, strict=False), 1):
        if canvas != other:
            return number
    shorter, longer = sorted(map(len, canvases))
    return None if shorter == longer else shorter + 1
