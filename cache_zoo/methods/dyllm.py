"""DyLLM: keys, values and feed-forward only of rows whose attention context changed."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from cache_zoo.base import KVCache
from cache_zoo.blocks import AttentionBlock, FeedForwardBlock
from cache_zoo.errors import require
from cache_zoo.rows import Rows
from cache_zoo.state import Canvas, Outcome, Step


class DyLLMCache(KVCache):
    """Saliency-based token selection and partial attention (DyLLM, arXiv 2603.08026, as in its code).

    It stores keys, values, attention contexts (before the output projection) and feed-forward outputs of every row.
    The first ``full_steps`` forwards recompute all of it. Of the others the first ``period`` and every ``period``-th
    run all rows, the rest only the response. Queries and the output projection are computed for all of these, and

    * keys and values of the salient rows, in layer 0 those whose token changed in the step before;
    * the context: exact for salient rows; for the others the stored one plus the attention to the change of the
      values (the change of their own weights is left out);
    * then the rows whose context has a cosine to the stored one below ``threshold`` are salient: they run the
      feed-forward of this layer and the next layer. The others add their stored output.

    Deviates from the released code in shifted models: the row before the response runs as long as it predicts a mask
    (there the row of the first mask predicts it). If the visible columns of a sequence change (suffix pruning), the
    forward is full for it, because stored contexts hold sums over other columns.

    Args:
        threshold: cosine below which a row is salient; above 1: all, if any row changed; below -1: none.
        full_steps: forwards that recompute everything, at least 1.
        period: forwards between those that run the prompt.

    Attributes:
        salient: rows that each layer of the last forward found salient; all that ran in a full forward.
    """

    paper = "DyLLM, arXiv 2603.08026"
    exact_with: ClassVar[dict[str, Any] | None] = {"full_steps": 2**31}

    def __init__(self, threshold: float = 0.99, full_steps: int = 4, period: int = 4) -> None:
        require(
            not 1 - 1e-6 < threshold <= 1,
            f"cache parameter 'threshold' must be at most 0.999999, or above 1 for all rows, not {threshold}: the "
            "cosine of an unchanged row is 1 up to rounding",
        )
        require(full_steps >= 1, f"cache parameter 'full_steps' must be at least 1, not {full_steps}")
        require(period >= 1, f"cache parameter 'period' must be at least 1 (1 always runs the prompt), not {period}")
        self.threshold, self.full_steps, self.period = threshold, full_steps, period

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        shape = canvas.num_layers, *canvas.shape, canvas.hidden_size
        self._contexts = torch.empty(shape, dtype=canvas.dtype, device=canvas.device)
        self._feed_forward_out = torch.empty_like(self._contexts)
        self._changed, self._visible = torch.zeros_like(canvas.valid), canvas.valid
        self.salient: list[Rows] = []

    def rows(self, step: Step) -> Tensor | None:
        canvas, number = step.canvas, step.index + 1
        visible = canvas.valid if step.visible is None else step.visible
        new = visible != self._visible if step.fresh is None else (visible != self._visible) | step.fresh
        self._full = new.any(dim=1, keepdim=True) | (number <= self.full_steps)
        self._visible = visible
        if number <= max(self.full_steps, self.period) or number % self.period == 0:
            return None
        return self._full | (canvas.columns >= canvas.prompt_length) | step.open.roll(-canvas.shift, dims=1)

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        rows, h = step.rows, attn.norm(x)
        if layer == 0:
            self.salient = []
            self._salient = Rows.from_mask(rows.mask & (self._changed | self._full))
        before = rows.read(self._contexts[layer])
        if len(self._salient) == len(rows):  # as in all layers of a full forward
            query, key, value = attn.project(h, rows)
            self.store.write(layer, rows, key, value)
            context = attn.attend(query, rows, *self.store.read(layer, step.columns))
        else:
            context = self._partial(layer, attn.query(h, rows), h, before, attn, step)
        rows.write(self._contexts[layer], context)
        other = rows.scatter(F.cosine_similarity(context.float(), before.float()) < self.threshold)
        other &= self._salient.mask.any(dim=1, keepdim=True)  # no rounding where nothing changed
        self._salient = Rows.from_mask(rows.mask & (other | self._full))
        self.salient.append(self._salient)
        return attn.output(context)

    def feed_forward(self, layer: int, x: Tensor, ffn: FeedForwardBlock, step: Step) -> Tensor:
        if len(self._salient):
            self._salient.write(self._feed_forward_out[layer], ffn(x[step.rows.locate(self._salient.index)]))
        return step.rows.read(self._feed_forward_out[layer])

    def end_step(self, step: Step, outcome: Outcome) -> None:
        self._changed = outcome.changed

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        self._contexts, self._feed_forward_out = self._contexts[:, kept], self._feed_forward_out[:, kept]
        self._changed, self._visible = self._changed[kept], self._visible[kept]

    def _partial(self, layer: int, query: Tensor, h: Tensor, old: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        """Contexts ``[N, H * E]`` from ``query``, normed ``h`` ``[N, D]`` and the stored contexts ``old``."""
        rows, salient = step.rows, self._salient
        if len(salient) == 0:
            return old
        others = Rows.from_mask(rows.mask ^ salient.mask)
        at, elsewhere = rows.locate(salient.index), rows.locate(others.index)
        before = self.store.read_values(layer, salient)
        self.store.write(layer, salient, *attn.key_value(h[at], salient))
        change = self.store.read_values(layer, salient) - before  # of what is stored, which may be less precise
        keys, values = self.store.read(layer, step.columns)
        context = old.clone()
        context[elsewhere] += attn.attend(query[elsewhere], others, keys, step.columns.gather(salient.scatter(change)))
        context[at] = attn.attend(query[at], salient, keys, values)  # last, as rows aside attend to what it attends to
        return context
