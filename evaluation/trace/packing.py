"""What the script of the page reads: each forward in a few numbers, however long the canvas is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch

from evaluation.trace.recording import Trace
from generation import TraceStep

SCALE = 1000
"""Confidences are whole thousandths."""


def packed(trace: Trace) -> dict[str, Any]:
    """A trace as plain data. Generated positions count from 0.

    ``patterns`` are the choices of rows that occurred: pairs of a length and the number of layers in which so many
    positions of the canvas ran. Each of ``steps`` has

    * ``rows``: its pattern, ``run``: rows run, the mean over layers, ``ms``: milliseconds, ``block``: of the step;
    * ``new``: positions decided;
    * ``sure``: the first position with a confidence, then confidences up to the last one; null where there is none.
    """
    length, patterns = len(trace.asked.ids) + len(trace.ids), _Patterns()
    return {
        "gen": len(trace.ids),
        "block": trace.settings.generation.block,
        "layers": trace.config.num_layers,
        "pieces": trace.pieces,
        "special": [place for place, token in enumerate(trace.ids) if token in trace.special],
        "answer": trace.answer.tokens,
        "steps": [_step(step, length, patterns) for step in trace.steps],
        "patterns": patterns.found,
    }


def rows_run(step: TraceStep, length: int) -> list[int]:
    """For each position of a canvas of ``length``, the number of layers in which it ran."""
    ran = torch.tensor([place for layer in step.layer_rows for place in layer[0]], dtype=torch.long)
    return list(torch.bincount(ran, minlength=length).tolist())


class _Patterns:
    """Choices of rows, each kept once: many caches run the same rows step after step."""

    def __init__(self) -> None:
        self.found: list[list[int]] = []
        self._numbers: dict[tuple[int, ...], int] = {}

    def number(self, layers: Sequence[int]) -> int:
        runs = tuple(value for layer, group in groupby(layers) for value in (len(list(group)), layer))
        if runs not in self._numbers:
            self._numbers[runs] = len(self.found)
            self.found.append(list(runs))
        return self._numbers[runs]


def _step(step: TraceStep, length: int, patterns: _Patterns) -> dict[str, Any]:
    layers = rows_run(step, length)
    return {
        "rows": patterns.number(layers),
        "run": round(sum(layers) / len(step.layer_rows), 3),
        "ms": round(1000 * step.seconds, 3),
        "block": step.blocks[0],
        "new": step.committed[0].nonzero().flatten().tolist(),
        "sure": _confidences(step.confidence[0].tolist()),
    }


def _confidences(values: list[float]) -> list[int | None]:
    there = [place for place, value in enumerate(values) if value != -torch.inf]
    if not there:
        return [0]
    return [there[0], *(_thousandths(value) for value in values[there[0] : there[-1] + 1])]


def _thousandths(value: float) -> int | None:
    return None if value == -torch.inf else round(SCALE * value)
