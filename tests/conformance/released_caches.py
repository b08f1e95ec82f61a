"""Caches with the behaviour of released code that ours leave out on purpose, so that the rest can be compared."""

from __future__ import annotations

from torch import Tensor

from cache_zoo import Step
from cache_zoo.methods.dkv import DKVCache


class WrappedDKV(DKVCache):
    """dKV-Cache for Dream as released: the last row, whose successor wraps to the first token, is frozen at once."""

    def rows(self, step: Step) -> Tensor | None:
        rows = super().rows(step)
        if rows is not None and step.index >= 2 and step.index % self.cache_steps:
            rows = rows.clone()
            rows[:, -1] = False
        return rows
