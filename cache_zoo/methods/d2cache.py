"""d2Cache: rows chosen by certainty-weighted confidence and attention rollout."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from cache_zoo.base import KVCache
from cache_zoo.errors import require, require_choice
from cache_zoo.methods.certainty import certainty_density, most_certain
from cache_zoo.methods.rollout import inflate, nucleus, rollout_importance
from cache_zoo.state import Canvas, Outcome, Step


class D2Cache(KVCache):
    """Dual adaptive caching (d2Cache, arXiv 2509.23094, sections 4.1 and 4.2).

    The first forward runs every row, and nothing is refreshed after it. The end of each step chooses the rows of the
    next one, the same for all layers:

    1. the ``current_k`` masked positions with the highest confidence x certainty density, those of the current block
       first, in a window of whole blocks from the current one on that holds at least ``current_k`` masks;
    2. the tokens committed or revoked in this step, because their embeddings changed;
    3. of the other positions, the nucleus of mass ``rollout_p`` of the attention rollout, at least one;
    4. every gap of index distance at most ``inflate_w`` between two chosen rows.

    Deviates from the released code by leaving out its defects: the window is rounded by the block length (not by the
    masks left), a masked position whose row did not run is never committed, padding never enters the nucleus, and each
    sequence of a batch runs only the rows it needs. If no chosen row can commit anything (the text ended in the block,
    or confidences are negative), the choice is repeated with the committable positions first.

    Args:
        rollout_p: probability mass of the rollout nucleus, in [0, 1].
        current_k: masked positions kept up to date, at least 1.
        sigma: standard deviation of the certainty kernel in positions, above 0.
        inflate_w: largest index distance of two chosen rows whose gap runs as well; 0 for none.
        confidence: ``live`` updates the confidence of every masked position that ran, as in the paper; ``first-step``
            keeps those of the first step, as the released code does for its published figures.
    """

    paper = "d2Cache, arXiv 2509.23094"
    needs_attention = True
    # In shifted models the nucleus never holds the row before the first generated token; the gap rule adds it.
    exact_with: ClassVar[dict[str, Any] | None] = {"rollout_p": 1.0, "current_k": 2**31, "inflate_w": 2}

    def __init__(
        self,
        rollout_p: float = 0.1,
        current_k: int = 32,
        sigma: float = 10.0,
        inflate_w: int = 4,
        confidence: Literal["live", "first-step"] = "live",
    ) -> None:
        require(0 <= rollout_p <= 1, f"cache parameter 'rollout_p' must be between 0 and 1, not {rollout_p}")
        require(current_k >= 1, f"cache parameter 'current_k' must be at least 1, not {current_k}")
        require(0.001 <= sigma <= 100_000, f"cache parameter 'sigma' must be 0.001 to 100,000, not {sigma}")
        require(inflate_w >= 0, f"cache parameter 'inflate_w' must not be negative, not {inflate_w}")
        require_choice("value of cache parameter 'confidence'", confidence, ("live", "first-step"))
        self.rollout_p, self.current_k, self.sigma, self.inflate_w = rollout_p, current_k, sigma, inflate_w
        self.confidence = confidence

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        self._observed: list[Tensor] = []
        self._known_confidence: Tensor | None = None  # float32 [B, G]
        self._next: Tensor | None = None  # BoolTensor [B, T]
        self._importance, self._changed = torch.empty(0), torch.empty(0)

    def rows(self, step: Step) -> Tensor | None:
        if self._next is None:
            return None
        stuck = ~(step.committable & self._next.roll(step.canvas.shift, dims=1)).any(dim=1, keepdim=True)
        if stuck.any():  # chosen for another block, or for masks behind the end of the text
            again = self._choose(step, step.masked, self._changed, first=step.committable)
            self._next = torch.where(stuck, again, self._next)
        return self._next

    def confidence_positions(self, step: Step) -> Tensor | None:
        return step.masked if step.index == 0 or self.confidence == "live" else None

    def observe_attention(self, layer: int, weights: Tensor, step: Step) -> None:
        self._observed.append(weights)

    def end_step(self, step: Step, outcome: Outcome) -> None:
        start = step.canvas.prompt_length
        confidence, live = outcome.confidence[:, start:], outcome.live[:, start:]
        if self._known_confidence is None:
            self._known_confidence = confidence
        elif self.confidence == "live":
            self._known_confidence = torch.where(live, confidence, self._known_confidence)
        self._importance = rollout_importance(self._observed, step.rows)
        self._observed = []
        self._changed = outcome.changed
        self._next = self._choose(step, outcome.masked, outcome.changed, first=step.block)

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        assert self._known_confidence is not None
        assert self._next is not None
        self._known_confidence, self._next = self._known_confidence[kept], self._next[kept]
        self._importance, self._changed = self._importance[kept], self._changed[kept]

    def _choose(self, step: Step, masked: Tensor, changed: Tensor, first: Tensor) -> Tensor:
        """Rows of the next step, masked positions of ``first`` first; all BoolTensors ``[B, T]``."""
        assert self._known_confidence is not None
        canvas, start = step.canvas, step.canvas.prompt_length
        generated, candidates = masked[:, start:], torch.zeros_like(masked)
        score = self._known_confidence * certainty_density(~generated, self.sigma)
        candidates[:, start:] = most_certain(score, generated, first[:, start:], self.current_k, canvas.block_length)
        chosen = candidates.roll(-canvas.shift, dims=1)
        if canvas.shift:
            chosen[:, start - 1] = False
        chosen |= changed
        chosen |= nucleus(self._importance, self.rollout_p, among=~chosen & canvas.valid)
        if canvas.shift:
            # The row before the first generated token runs only to predict it.
            chosen[:, start - 1] = candidates[:, start]
        return inflate(chosen, self.inflate_w) if self.inflate_w else chosen
