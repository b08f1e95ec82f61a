"""The data that the script of the page reads: a few numbers per forward, however long the canvas is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch

from evaluation.trace.recording import Trace
from generation import TraceStep
from generation.strategies.registry import make_strategy

SCALE = 1000
"""Confidences are integers, in thousandths."""


def page_data(trace: Trace) -> dict[str, Any]:
    """A trace as plain data. Generated positions count from 0.

    ``patterns`` are the distinct choices of rows, run-length encoded: a number of canvas positions, and the number of
    layers in which these ran. Each of ``steps`` has

    * ``rows``: index of its pattern, ``run``: mean rows per layer, ``ms``: milliseconds;
    * ``region``: first position of the block, or of what the strategy decodes, and the position behind it;
    * ``new``: committed positions;
    * ``sure``: first position with a confidence, then the confidences up to the last one; null where there is none.

    Where tokens were taken back or the canvas grew, ``words`` are the tokens that it held, and whether each is special,
    ``first`` is the number of positions before the first forward, and steps also have

    * ``put``: positions that hold something else than before, each followed by the index of the word, -1 for a mask;
    * ``gone``: positions whose token was taken back;
    * ``there``: positions that exist after it.
    """
    start, patterns = len(trace.prompt.ids), _Patterns()
    changes: dict[str, Any] = {} if not trace.words else _changes(trace)
    further = changes.pop("steps", [{} for _ in trace.steps])
    return {
        **changes,
        "gen": len(trace.ids),
        "block": trace.settings.generation.block,
        "layers": trace.config.num_layers,
        "texts": trace.token_texts,
        "special": [position for position, token in enumerate(trace.ids) if token in trace.special],
        "answer": trace.answer.tokens,
        "steps": [
            {**_step(step, start, start + len(trace.ids), patterns), **more}
            for step, more in zip(trace.steps, further, strict=True)
        ],
        "patterns": patterns.found,
    }


class _Patterns:
    """Choices of rows, each stored once: many caches run the same rows in many steps."""

    def __init__(self) -> None:
        self.found: list[list[int]] = []
        self._indices: dict[tuple[int, ...], int] = {}

    def index(self, layers: Sequence[int]) -> int:
        pattern = tuple(value for layer, group in groupby(layers) for value in (len(list(group)), layer))
        if pattern not in self._indices:
            self._indices[pattern] = len(self.found)
            self.found.append(list(pattern))
        return self._indices[pattern]


def _step(step: TraceStep, start: int, length: int, patterns: _Patterns) -> dict[str, Any]:
    rows = torch.tensor([row for layer in step.layer_rows for row in layer[0]], dtype=torch.long)
    layers = torch.bincount(rows, minlength=length).tolist()  # by position, the number of layers in which it ran
    return {
        "rows": patterns.index(layers),
        "run": round(sum(layers) / len(step.layer_rows), 3),
        "ms": round(1000 * step.seconds, 3),
        "region": [column - start for column in step.bounds[0]],
        "new": step.committed[0].nonzero().flatten().tolist(),
        "sure": _confidences(step.confidence[0].tolist()),
    }


def _changes(trace: Trace) -> dict[str, Any]:
    """``words``, ``first``, and what ``steps`` have besides, for a canvas that does not just fill."""
    mask, gen = trace.config.mask_id, len(trace.ids)
    indices = {token: index for index, token in enumerate(token for token in trace.words if token != mask)} | {mask: -1}
    before, steps = [mask] * gen, []
    for step in trace.steps:
        canvas = step.canvas[0, :gen].tolist()
        changed = [position for position in range(gen) if canvas[position] != before[position]]
        gone = [] if step.revoked is None else step.revoked[0].nonzero().flatten().tolist()
        steps.append(
            {
                "put": [value for position in changed for value in (position, indices[canvas[position]])],
                "gone": gone,
                "there": gen if step.lengths is None else step.lengths[0],
            }
        )
        before = canvas
    words = [[text, token in trace.special] for token, text in trace.words.items() if token != mask]
    first = make_strategy(trace.settings.generation).initial_length or gen
    return {"words": words, "first": min(first, gen), "steps": steps}


def _confidences(values: list[float]) -> list[int | None]:
    positions = [position for position, value in enumerate(values) if value != -torch.inf]
    if not positions:
        return [0]
    between = values[positions[0] : positions[-1] + 1]
    return [positions[0], *(None if value == -torch.inf else round(SCALE * value) for value in between)]
