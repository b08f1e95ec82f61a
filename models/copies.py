"""Copies of a region beside the canvas, each with tokens of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cache_zoo import Cache, Rows, Step
from models.layers import Attention, FeedForward
from models.leave_one_out import LeaveOneOutRows


class CopiedRows:
    """Rows beside those of the canvas that predict what would follow from other tokens (ODB-dLLM, arXiv 2511.21759).

    Those rows of the canvas that run and belong to a region have another row in each of its copies, at the same place
    in the sequence. It attends to the columns of the canvas, but for those that its copy has rows for, and to the rows
    of its copy. No row of the canvas and of another copy attends to it, so a cache need not know of it. In shifted
    models the row before the region, which predicts its first token, belongs to a copy too.

    Args:
        tokens: LongTensor ``[B, K, T]`` of ``K`` copies; -1 where a copy has no token.
        wanted: BoolTensor ``[B, K, T]``, positions whose logits are wanted.
        step: of the forward.
        embedding: of the model.
    """

    def __init__(self, tokens: Tensor, wanted: Tensor, step: Step, embedding: nn.Module) -> None:
        batch, copies, length = tokens.shape
        shift, columns = step.canvas.shift, step.columns
        inside = tokens >= 0
        rows = ((inside | inside.roll(-shift, dims=2)) & step.rows.mask.unsqueeze(1)).flatten(0, 1)
        self.rows = Rows.from_mask(rows)  # each copy is a sequence of its own
        index = self.rows.index
        places = index // (copies * length) * length + index % length
        self._places = Rows(places, [sum(self.rows.counts)], (1, batch * length))
        ids = torch.where(inside, tokens, step.ids.unsqueeze(1)).flatten()
        self.x: Tensor = embedding(ids[index])
        self.logit_rows = self.rows.locate(wanted.roll(-shift, dims=2).flatten().nonzero().squeeze(1))
        self._copies = copies
        # Each row attends to as many columns as one of the canvas: its copy stands in for those that it hides.
        self._counts = [count for count in columns.counts for _ in range(copies)]
        self._mask = self._attended(rows, step)
        step.work.beside += len(self.rows)

    def _attended(self, rows: Tensor, step: Step) -> Tensor:
        """BoolTensor ``[B * K, S + W]``: visible columns, then its own rows, that each copy attends to."""
        columns, copies = step.columns, self._copies
        visible = ~rows
        if columns.index is not None:
            visible = visible.gather(1, columns.index.repeat_interleave(copies, dim=0))
        if columns.mask is not None:
            visible = visible & columns.mask.repeat_interleave(copies, dim=0)
        places = torch.arange(self.rows.width, device=rows.device)
        return torch.cat((visible, places < torch.tensor(self.rows.counts, device=rows.device)[:, None]), dim=1)

    def layer(self, layer: int, attn: Attention, ffn: FeedForward, cache: Cache, step: Step) -> None:
        """Run one layer, behind the rows of the canvas, whose keys and values ``attn`` remembers."""
        rows = self.rows
        query, key, value = attn.project_aside(attn.norm(self.x), self._places)
        shared = attn.attended or LeaveOneOutRows.stored(layer, cache, step)
        keys, values = (
            torch.cat((of_canvas.repeat_interleave(self._copies, dim=0), rows.pad(own)), dim=1)
            for of_canvas, own in zip(shared, (key, value), strict=True)
        )
        mask = self._mask[:, None, None].expand(-1, step.canvas.num_heads, rows.width, -1)
        mixed = attn.attend(query, rows, keys, values, mask=mask, counts=self._counts)
        self.x = self.x + attn.output(mixed)
        self.x = self.x + ffn(self.x)
