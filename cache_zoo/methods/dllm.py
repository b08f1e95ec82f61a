"""dLLM-Cache: rare refreshes of the prompt, frequent ones of the response, a few response rows in between."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from cache_zoo.base import KVCache
from cache_zoo.blocks import AttentionBlock, FeedForwardBlock
from cache_zoo.errors import require
from cache_zoo.rows import Rows
from cache_zoo.state import Canvas, Step


class DLLMCache(KVCache):
    """Adaptive feature caching (dLLM-Cache, arXiv 2506.06295, algorithm 1).

    It stores keys, values and the outputs of both sub-blocks for every row. The residual stream keeps its full length:
    a row that is not recomputed adds its stored outputs. With ``t`` counted over the whole generation,

    * prompt rows are recomputed at ``t % kp == 0``, response rows at ``t % kr == 0``;
    * in other steps each layer recomputes the values of all response rows, and then the ``floor(rou * gen_length)``
      rows whose value changed most, by cosine, since the previous step (stored values are overwritten each time);
    * layer 0 is always recomputed completely.

    Deviates from the released code: left padding is masked, not attended.

    Args:
        kp: steps between refreshes of the prompt.
        kr: steps between refreshes of the response.
        rou: share of the response recomputed in the steps between, in [0, 1].
    """

    paper = "dLLM-Cache, arXiv 2506.06295"
    exact_with: ClassVar[dict[str, Any] | None] = {"kp": 1, "kr": 1}
    renews_first_layer: ClassVar[bool] = True
    """Whether layer 0 is recomputed in every step."""

    def __init__(self, kp: int = 50, kr: int = 2, rou: float = 0.25) -> None:
        require(kp >= 1, f"cache parameter 'kp' must be at least 1 (1 refreshes the prompt every step), not {kp}")
        require(kr >= 1, f"cache parameter 'kr' must be at least 1 (1 refreshes the response every step), not {kr}")
        require(0 <= rou <= 1, f"cache parameter 'rou' must be between 0 and 1, not {rou}")
        self.kp, self.kr, self.rou = kp, kr, rou

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        # Outputs [B, T, D] per layer; the first step fills them.
        self._attention_out: list[Tensor] = [torch.empty(0)] * canvas.num_layers
        self._feed_forward_out: list[Tensor] = [torch.empty(0)] * canvas.num_layers
        self._parts: tuple[Tensor, Tensor | None, Rows, Rows] | None = None

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        prompt_due, response_due = step.index % self.kp == 0, step.index % self.kr == 0
        if (layer == 0 and self.renews_first_layer) or (prompt_due and response_due):
            self._chosen = step.rows
            return self._stored(self._attention_out, layer, super().attention(layer, x, attn, step), step)

        prompt, response = self._split(step)
        chosen = [rows for rows, due in ((prompt, prompt_due), (response, response_due)) if due]
        if step.fresh is not None:
            chosen.append(Rows.from_mask(step.fresh))
        for rows in chosen:
            self._renew_values(rows, layer, x, attn, step)
        if not response_due and self.rou > 0:
            before = self.store.read_values(layer, response)
            self._renew_values(response, layer, x, attn, step)
            value = self.store.read_values(layer, response)  # as stored: quantising is no change
            chosen.append(self._least(response, F.cosine_similarity(value.flatten(1), before.flatten(1))))
        self._chosen = Rows.union(chosen, step.rows)
        out = None
        if len(self._chosen):
            query, key = attn.query_key(attn.norm(x[step.rows.locate(self._chosen.index)]), self._chosen)
            self.store.write(layer, self._chosen, key)
            out = attn.output(attn.attend(query, self._chosen, *self.store.read(layer, step.columns)))
        return self._stored(self._attention_out, layer, out, step)

    def feed_forward(self, layer: int, x: Tensor, ffn: FeedForwardBlock, step: Step) -> Tensor:
        out = None
        if len(self._chosen):
            out = ffn(x if self._chosen is step.rows else x[step.rows.locate(self._chosen.index)])
        return self._stored(self._feed_forward_out, layer, out, step)

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        self._attention_out = [out[kept] for out in self._attention_out]
        self._feed_forward_out = [out[kept] for out in self._feed_forward_out]

    def _split(self, step: Step) -> tuple[Rows, Rows]:
        """The visible rows of the prompt and of the response that have run before."""
        canvas, fresh = step.canvas, step.fresh
        visible = canvas.valid if step.visible is None else step.visible
        if self._parts is None or self._parts[0] is not visible or self._parts[1] is not fresh:
            known, response = visible if fresh is None else visible & ~fresh, canvas.columns >= canvas.prompt_length
            self._parts = visible, fresh, Rows.from_mask(known & ~response), Rows.from_mask(known & response)
        return self._parts[2:]

    def _stored(self, stores: list[Tensor], layer: int, out: Tensor | None, step: Step) -> Tensor:
        """Keep the outputs ``out`` of the chosen rows; returns those of all rows of the step, ``[N, D]``."""
        if out is not None and step.index == 0:
            stores[layer] = self._chosen.scatter(out)
        elif out is not None:
            self._chosen.write(stores[layer], out)
        return stores[layer].flatten(0, 1) if step.rows.complete else step.rows.read(stores[layer])

    def _renew_values(self, rows: Rows, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> None:
        """Recompute and store the values of ``rows``."""
        self.store.write(layer, rows, value=attn.value(attn.norm(x[step.rows.locate(rows.index)])))

    def _least(self, response: Rows, similarity: Tensor) -> Rows:
        """The share ``rou`` of each sequence's ``response`` with the least ``similarity``; ties go to the lowest."""
        counts = [int(self.rou * count) for count in response.counts]
        if response.uniform:
            order = response.pad(similarity).sort(dim=1, stable=True).indices[:, : counts[0]].sort(dim=1).values
            return Rows(response.index.view(len(counts), -1).gather(1, order).flatten(), counts, response.shape)
        by_column = torch.full(response.shape, torch.inf, device=similarity.device)
        response.write(by_column, similarity.float())
        rank = by_column.argsort(dim=1, stable=True).argsort(dim=1)
        return Rows.from_mask(rank < torch.tensor(counts, device=rank.device)[:, None])
