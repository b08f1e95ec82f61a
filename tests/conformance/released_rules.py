"""Decoding rules of released code that differ from ours on purpose, so that a replay can be compared in the rest."""

from __future__ import annotations

import torch
from torch import Tensor

from cache_zoo.methods.dllm import DLLMCache
from generation import GenerationOptions, Strategy, View


class Ranked(Strategy):
    """Commits the most confident positions of a block, as many as `count` says."""

    def commit(self, view: View) -> Tensor:
        score = view.confidence.masked_fill(~view.eligible, -torch.inf)
        ordered, order = score.sort(dim=1, descending=True, stable=True)
        chosen = torch.zeros_like(view.eligible)
        for b, masks in enumerate(view.eligible.sum(dim=1).tolist()):
            number = self.count(ordered[b, :masks].tolist(), view.block_step[b])
            chosen[b, order[b, :number]] = True
        return chosen & view.eligible

    def count(self, confidence: list[float], step: int) -> int:
        """How many of the candidates, given by descending confidence, forward ``step`` of the block commits."""
        raise NotImplementedError


class LateSchedule(Ranked):
    """DPad's uncached schedule on Dream: Dream's from its second step on."""

    def __init__(self, options: GenerationOptions) -> None:
        super().__init__(options)
        assert options.steps is not None
        self.patience = self._steps = options.steps * options.block // options.gen_length

    def count(self, confidence: list[float], step: int) -> int:
        if step + 1 >= self._steps - 1:
            return len(confidence)
        times = torch.linspace(1, self.options.eps, self._steps + 1)
        return int(len(confidence) * (1 - times[step + 2] / times[step + 1]))


class DeferringThreshold(Ranked):
    """Fast-dLLM's threshold rule for Dream without a cache: of a fixed number per forward, those below the threshold
    are deferred; after the last scheduled forward only deferred ones are left."""

    def __init__(self, options: GenerationOptions) -> None:
        super().__init__(options)
        assert options.steps is not None
        self._steps = options.steps
        self._fresh, self._deferred = options.gen_length // options.steps, 0

    def count(self, confidence: list[float], step: int) -> int:
        assert self.options.threshold is not None
        offered = confidence[: self._fresh + self._deferred]
        kept = 1 + sum(value >= self.options.threshold for value in offered[1:])
        self._deferred = len(offered) - kept
        if self._deferred and step >= self._steps - 1:
            self._fresh = 0
        return kept


class AllLayersAlike(DLLMCache):
    """dLLM-Cache as SlowFast's repository has it: layer 0 is recomputed like all others."""

    renews_first_layer = False
