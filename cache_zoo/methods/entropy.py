"""EntropyCache: uncertain tokens announce that the cache is stale."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from cache_zoo.base import KVCache
from cache_zoo.errors import require
from cache_zoo.state import Canvas, Outcome, Step


class EntropyCache(KVCache):
    """Recompute everything after an uncertain token (EntropyCache, arXiv 2603.18489; no code is published).

    The first forward runs every row. If the largest entropy among the distributions of the tokens that a forward
    commits exceeds ``threshold``, the next forward runs every row as well; else it runs the masked rows of the current
    block, revoked tokens, and the ``recent_k`` most recently committed ones, of one forward the lowest first.

    Not specified in what we could read, and chosen here: the unit (nats), both defaults (docs/entropycache.md shows
    how), that a new block alone is no reason to recompute, and that a token which is written without a distribution (by
    an edit, or behind the end of the text) is one. With shifted models (Dream) the rows before masked positions run,
    since these predict them.

    Args:
        threshold: entropy in nats above which the next forward is full; negative recomputes everything always.
        recent_k: committed tokens that run again; 0 for none.
    """

    paper = "EntropyCache, arXiv 2603.18489"
    needs_entropy = True
    exact_with: ClassVar[dict[str, Any] | None] = {"threshold": -1.0}

    def __init__(self, threshold: float = 0.05, recent_k: int = 16) -> None:
        require(threshold == threshold, f"cache parameter 'threshold' must be a number, not {threshold}")
        require(recent_k >= 0, f"cache parameter 'recent_k' must not be negative, not {recent_k}")
        self.threshold, self.recent_k = threshold, recent_k

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        self._full = torch.ones(canvas.shape[0], 1, dtype=torch.bool, device=canvas.device)
        self._revoked: Tensor | None = None  # BoolTensor [B, T]
        self._committed_at = torch.full(canvas.shape, -1, device=canvas.device)  # step of each token, -1 for none

    def rows(self, step: Step) -> Tensor | None:
        if step.index == 0:
            return None
        masks = (step.masked & step.block).roll(-step.canvas.shift, dims=1)
        latest = self._committed_at.sort(dim=1, descending=True, stable=True).indices[:, : self.recent_k]
        recent = torch.zeros_like(masks).scatter_(1, latest, True) & (self._committed_at >= 0)
        rows = self._full | masks | recent
        return rows if self._revoked is None else rows | self._revoked

    def end_step(self, step: Step, outcome: Outcome) -> None:
        assert outcome.entropy is not None
        known = torch.where(outcome.live, outcome.entropy, torch.inf)
        largest = known.masked_fill(~outcome.committed, -torch.inf).amax(dim=1, keepdim=True)
        self._full, self._revoked = largest > self.threshold, outcome.revoked
        self._committed_at[outcome.committed] = step.index
        self._committed_at[outcome.masked] = -1

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        self._full, self._committed_at = self._full[kept], self._committed_at[kept]
        self._revoked = None if self._revoked is None else self._revoked[kept]
