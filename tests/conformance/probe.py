"""What a replay computes inside a forward, for comparison with what the official code recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from typing import Any
from unittest.mock import patch

from safetensors.torch import load_file
from torch import Tensor

from models import Transformer
from tests.conformance.case import Case

TOLERANCE = 1e-5
"""Of the largest logit. The recorded ones come from several attention kernels; against float64 they and ours are off by
up to this through rounding alone."""


@contextmanager
def first_logits(model: Transformer) -> Iterator[list[Tensor]]:
    """A list that gets the logits ``[N, V]`` of all rows of the first forward, packed, computed beside it."""
    seen: list[Tensor] = []
    run = model.run

    def observed(ids: Tensor, **named: Any) -> Any:
        if not seen:
            aside = copy(named["step"])
            aside.work = deepcopy(aside.work)
            seen.append(run(ids, step=aside).logits)
        return run(ids, **named)

    with patch.object(model, "run", observed):
        yield seen


def logits_error(case: Case, ours: Tensor) -> float:
    """Largest difference to the recorded logits of the first forward, without padding, relative to the largest."""
    recorded = load_file(case.path.with_name(case.expected["logits_file"]))["logits_forward_0"].flatten(0, -2)
    if recorded.shape != ours.shape:  # padding is recorded too
        lengths, width = case.data["prompt_lengths"], recorded.shape[0] // case.batch
        padding = [case.start - length for length in lengths]
        recorded = recorded[[b * width + p for b in range(case.batch) for p in range(padding[b], width)]]
    return ((ours - recorded).abs().max() / recorded.abs().max()).item()
