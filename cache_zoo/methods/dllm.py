"""dLLM-Cache: rare refreshes of the prompt, frequent ones of the response, a few response rows in between."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from cache_zoo.base import AttentionBlock, FeedForwardBlock, KVCache
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

    def __init__(self, kp: int = 50, kr: int = 2, rou: float = 0.25) -> None:
        require(kp >= 1, f"cache parameter 'kp' must be at least 1 (1 refreshes the prompt every step), not {kp}")
        require(kr >= 1, f"cache parameter 'kr' must be at least 1 (1 refreshes the response every step), not {kr}")
        require(0 <= rou <= 1, f"cache parameter 'rou' must be between 0 and 1, not {rou}")
        self.kp, self.kr, self.rou = kp, kr, rou

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        # Packed like the residual stream, [N, D] per layer; the first step fills them.
        self._attention_out: list[Tensor] = [torch.empty(0)] * canvas.num_layers
        self._feed_forward_out: list[Tensor] = [torch.empty(0)] * canvas.num_layers
        self._split(canvas)

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        prompt_due, response_due = step.index % self.kp == 0, step.index % self.kr == 0
        if layer == 0 or (prompt_due and response_due):
            self._chosen = step.rows
            self._attention_out[layer] = super().attention(layer, x, attn, step)
            return self._attention_out[layer]

        chosen = [rows for rows, due in ((self._prompt, prompt_due), (self._response, response_due)) if due]
        for rows in chosen:
            self._renew_values(rows, layer, x, attn, step)
        if not response_due and self.rou > 0:
            before = self._response.read(self._values[layer])
            value = self._renew_values(self._response, layer, x, attn, step)
            similarity = F.cosine_similarity(value.flatten(1), before.flatten(1))
            chosen.append(self._least(similarity, int(self.rou * step.canvas.gen_length)))

        self._chosen = _union(chosen, step.canvas)
        if len(self._chosen):
            at = step.rows.locate(self._chosen.index)
            query, key = attn.query_key(attn.norm(x[at]), self._chosen)
            self._chosen.write(self._keys[layer], key)
            mixed = attn.attend(query, self._chosen, self._keys[layer], self._values[layer])
            self._attention_out[layer][at] = attn.output(mixed)
        return self._attention_out[layer]

    def feed_forward(self, layer: int, x: Tensor, ffn: FeedForwardBlock, step: Step) -> Tensor:
        if self._chosen is step.rows:
            self._feed_forward_out[layer] = ffn(x)
        elif len(self._chosen):
            at = step.rows.locate(self._chosen.index)
            self._feed_forward_out[layer][at] = ffn(x[at])
        return self._feed_forward_out[layer]

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        rows = self._canvas.all_rows
        stay = torch.isin(rows.index // self._canvas.shape[1], kept)
        self._attention_out = [out[stay] for out in self._attention_out]
        self._feed_forward_out = [out[stay] for out in self._feed_forward_out]
        self._split(self._canvas.keep(kept))

    def _split(self, canvas: Canvas) -> None:
        """Rows of the prompt and of the response."""
        response = canvas.columns >= canvas.prompt_length
        self._canvas = canvas
        self._prompt = Rows.from_mask(canvas.valid & ~response)
        self._response = Rows.from_mask(canvas.valid & response)

    def _renew_values(self, rows: Rows, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        """Recompute, store and return the values of ``rows``, ``[N, G, E]``."""
        value = attn.value(attn.norm(x[step.rows.locate(rows.index)]))
        rows.write(self._values[layer], value)
        return value

    def _least(self, similarity: Tensor, count: int) -> Rows:
        """The ``count`` response rows of each sequence with the least ``similarity``; ties go to the lowest."""
        per_sequence = self._response.pad(similarity)
        order = per_sequence.sort(dim=1, stable=True).indices[:, :count].sort(dim=1).values
        index = self._response.index.view(per_sequence.shape).gather(1, order)
        return Rows(index.flatten(), [count] * index.shape[0], self._response.shape)


def _union(parts: list[Rows], canvas: Canvas) -> Rows:
    """Disjoint ``parts`` as one `Rows`, without reading counts from the device."""
    if len(parts) == 1:
        return parts[0]
    counts = [sum(part.counts[b] for part in parts) for b in range(canvas.shape[0])]
    empty = torch.empty(0, dtype=torch.long, device=canvas.device)
    return Rows(torch.cat([empty, *(part.index for part in parts)]).sort().values, counts, canvas.shape)
