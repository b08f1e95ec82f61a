"""d2Cache: rows chosen by certainty-weighted confidence and by attention rollout."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from cache_zoo.base import KVCache
from cache_zoo.errors import require, suggest
from cache_zoo.methods.certainty import certainty_density
from cache_zoo.rows import Rows
from cache_zoo.state import Canvas, Outcome, Step

_CONFIDENCE = ("live", "first-step")


class D2Cache(KVCache):
    """Dual adaptive caching (d2Cache, arXiv 2509.23094, sections 4.1 and 4.2).

    The first forward runs everything; there is no refresh after it. At the end of each step the rows of the next one
    are chosen, the same for all layers:

    1. among the masked positions of a window that starts at the current block and holds at least ``current_k`` masks
       (rounded up to whole blocks), the ``current_k`` with the highest confidence x certainty density; positions of
       the current block come first;
    2. the tokens committed in this step, since their embedding changed;
    3. of the other positions, the nucleus of mass ``rollout_p`` of attention rollout importance, at least one;
    4. every gap of index distance at most ``inflate_w`` between two chosen rows.

    Deviates from the released code, whose defects are left out: the window is rounded by the block size (not by the
    masks left), masked positions whose row did not run are never decoded, padding never enters the nucleus, and
    sequences of a batch run as many rows as each of them needs. If the rows chosen can decide nothing (the text ended
    in the block, or the confidence can be negative), the choice is made again with the decidable positions first.

    Args:
        rollout_p: probability mass of the rollout nucleus, in [0, 1].
        current_k: masked positions kept up to date, at least 1.
        sigma: standard deviation of the certainty kernel in positions, above 0.
        inflate_w: largest index distance of two chosen rows between which all rows run; 0 for none.
        confidence: ``live`` updates the confidences of all masked positions that ran, as the paper describes;
            ``first-step`` keeps those of the first step, as the released code does and its published figures have it.
    """

    paper = "d2Cache, arXiv 2509.23094"
    needs_attention = True
    # With shifted models the nucleus never holds the row before the first generated token; the gap rule fills it in.
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
        require(sigma > 0, f"cache parameter 'sigma' must be above 0, not {sigma}")
        require(0.001 <= sigma <= 100_000, f"cache parameter 'sigma' must be 0.001 to 100,000, not {sigma}")
        require(inflate_w >= 0, f"cache parameter 'inflate_w' must not be negative, not {inflate_w}")
        require(
            confidence in _CONFIDENCE,
            f"unknown value '{confidence}' of cache parameter 'confidence'. {suggest(confidence, _CONFIDENCE)}",
        )
        self.rollout_p, self.current_k, self.sigma, self.inflate_w = rollout_p, current_k, sigma, inflate_w
        self.confidence = confidence

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        self._observed: list[Tensor] = []
        self._known_confidence: Tensor | None = None  # float32 [B, G]
        self._next: Tensor | None = None  # BoolTensor [B, T]
        self._importance, self._committed = torch.empty(0), torch.empty(0)

    def rows(self, step: Step) -> Tensor | None:
        if self._next is None:
            return None
        stuck = ~(step.decidable & self._next.roll(step.canvas.shift, dims=1)).any(dim=1, keepdim=True)
        if stuck.any():  # the choice was made for another block, or for masks behind the end of the text
            again = self._choose(step, step.masked, self._committed, first=step.decidable)
            self._next = torch.where(stuck, again, self._next)
        return self._next

    def wanted(self, step: Step) -> Tensor | None:
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
        self._committed = outcome.committed
        self._next = self._choose(step, outcome.masked, outcome.committed, first=step.block)

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        assert self._known_confidence is not None
        assert self._next is not None
        self._known_confidence, self._next = self._known_confidence[kept], self._next[kept]
        self._importance, self._committed = self._importance[kept], self._committed[kept]

    def _choose(self, step: Step, masked: Tensor, committed: Tensor, first: Tensor) -> Tensor:
        """Rows of the next step, with masked positions of ``first`` before all others; all BoolTensors ``[B, T]``."""
        canvas, start = step.canvas, step.canvas.prompt_length
        candidates = torch.zeros_like(masked)
        candidates[:, start:] = self._candidates(masked[:, start:], first[:, start:], canvas.block_length)
        chosen = candidates.roll(-canvas.shift, dims=1)
        if canvas.shift:
            chosen[:, start - 1] = False
        chosen |= committed
        chosen |= nucleus(self._importance, self.rollout_p, among=~chosen & canvas.valid)
        if canvas.shift:
            # The row before the first generated token runs only to predict that token.
            chosen[:, start - 1] = candidates[:, start]
        return inflate(chosen, self.inflate_w) if self.inflate_w else chosen

    def _candidates(self, masked: Tensor, first: Tensor, block_length: int) -> Tensor:
        """Masked positions to keep up to date, BoolTensor ``[B, G]``."""
        assert self._known_confidence is not None
        length = masked.shape[1]
        columns = torch.arange(length, device=masked.device)
        enough = masked.cumsum(dim=1) >= self.current_k
        last = torch.where(enough.any(dim=1), enough.int().argmax(dim=1), length - 1)
        end = (last // block_length + 1) * block_length
        start = first.int().argmax(dim=1)
        window = masked & (columns >= start[:, None]) & (columns < end[:, None])

        score = self._known_confidence * certainty_density(~masked, self.sigma)
        order = score.masked_fill(~window, -torch.inf).sort(dim=1, descending=True, stable=True).indices
        # A stable sort by two keys; adding a bonus to the score would round small differences away.
        favoured = (window & first).gather(1, order).sort(dim=1, descending=True, stable=True).indices
        best = order.gather(1, favoured)[:, : self.current_k]
        return torch.zeros_like(masked).scatter_(1, best, True) & masked


def rollout_importance(weights: list[Tensor], rows: Rows) -> Tensor:
    """Column sums of the attention rollout, by one sweep from the last layer to the first.

    The rollout is the product over layers of ``(A + I) / (rowsum(A) + 1)``, where ``A`` holds the head-mean attention
    of the rows that ran and identity rows for the others (Abnar & Zuidema, arXiv 2005.00928; d2Cache, section 4.2). Its
    column sums are ``1^T R_L ... R_1``: a vector times one matrix per layer, of which only the rows that ran differ
    from the identity. So a step of ``R`` rows costs ``2 R T`` per layer, and no ``T x T`` matrix is formed.

    Args:
        weights: per layer, head-mean attention of the rows that ran, ``[N, T]``.
        rows: those rows.

    Returns:
        ``[B, T]``, in the dtype of the weights.
    """
    batch, length = rows.shape
    importance = weights[0].new_ones(batch * length)
    for attention in reversed(weights):
        share = importance[rows.index] / (attention.sum(dim=1) + 1)
        importance[rows.index] = share
        passed = torch.bmm(rows.pad(share).unsqueeze(1), rows.pad(attention)).squeeze(1)
        importance = importance + passed.flatten()
    return importance.view(batch, length)


def nucleus(importance: Tensor, mass: float, among: Tensor) -> Tensor:
    """The most important positions of ``among`` whose shares add up to at most ``mass``, and always the first.

    Args:
        importance: non-negative ``[B, T]``.
        mass: between 0 and 1.
        among: BoolTensor ``[B, T]``, positions to choose from.

    Returns:
        BoolTensor ``[B, T]``, a subset of ``among``.
    """
    if mass >= 1:  # rounding of the cumulative sum would leave the least important ones out
        return among
    share = importance.masked_fill(~among, 0)
    share = share / (share.sum(dim=1, keepdim=True) + 1e-9)
    ordered, order = share.sort(dim=1, descending=True, stable=True)
    inside = ordered.cumsum(dim=1) <= mass
    inside[:, 0] = True
    return torch.zeros_like(among).scatter_(1, order, inside) & among


def inflate(chosen: Tensor, window: int) -> Tensor:
    """Fill every gap between two consecutive chosen positions whose index distance is at most ``window``.

    Args:
        chosen: BoolTensor ``[B, T]``.
        window: index distance; a gap of ``window - 1`` positions is filled, one of ``window`` is not.
    """
    length = chosen.shape[1]
    columns = torch.arange(length, device=chosen.device).expand_as(chosen)
    window = min(window, length)
    far = 2 * length + window  # nothing chosen on that side
    before = torch.where(chosen, columns, -far).cummax(dim=1).values
    after = torch.where(chosen, columns, far).flip(1).cummin(dim=1).values.flip(1)
    return chosen | (after - before <= window)
