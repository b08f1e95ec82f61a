"""Second rows that predict a position from everything but its own token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cache_zoo import Cache, Rows, Step
from models.layers import Attention, FeedForward


class LeaveOneOutRows:
    """Rows beside those of the canvas (WINO, arXiv 2507.18578: its shadow block).

    The second row of a position stands at its place in the sequence, holds [MASK] and attends to all visible columns
    but its own, and to the other second rows. No other row attends to it, so a cache need not know of it. In shifted
    models it stands one place before and holds that token; second rows then attend only to themselves, because the next
    one holds the token that is left out.

    Args:
        positions: BoolTensor ``[B, T]``, committed or masked positions of the generated part.
        step: of the forward.
        embedding: of the model.
        mask_id: id of [MASK].
    """

    def __init__(self, positions: Tensor, step: Step, embedding: nn.Module, mask_id: int) -> None:
        shift = step.canvas.shift
        self.rows = Rows.from_mask(positions.roll(-shift, dims=1))
        tokens = step.ids.flatten()[self.rows.index]
        self.x: Tensor = embedding(tokens if shift else torch.full_like(tokens, mask_id))
        self._mask = self._attended(step)
        step.work.beside += len(self.rows)

    def _attended(self, step: Step) -> Tensor:
        """BoolTensor ``[B, W, S + W]``: visible columns, then second rows, that each second row attends to."""
        rows, columns, canvas = self.rows, step.columns, step.canvas
        index = canvas.columns if columns.index is None else columns.index
        own = rows.pad(rows.index % canvas.shape[1] + canvas.shift).unsqueeze(2) == index.unsqueeze(1)
        visible = ~own if columns.mask is None else ~own & columns.mask.unsqueeze(1)
        places = torch.arange(rows.width, device=own.device)
        second = (places < torch.tensor(rows.counts, device=own.device)[:, None]).unsqueeze(1)
        if canvas.shift:
            second = second & torch.eye(rows.width, dtype=torch.bool, device=own.device)
        return torch.cat((visible, second.expand(-1, rows.width, -1)), dim=2)

    def layer(self, layer: int, attn: Attention, ffn: FeedForward, cache: Cache, step: Step) -> None:
        """Run one layer, behind the rows of the canvas, whose keys and values ``attn`` remembers."""
        query, key, value = attn.project_aside(attn.norm(self.x), self.rows)
        keys, values = attn.attended or self.stored(layer, cache, step)
        keys = torch.cat((keys, self.rows.pad(key)), dim=1)
        values = torch.cat((values, self.rows.pad(value)), dim=1)
        mask = self._mask.unsqueeze(1).expand(-1, step.canvas.num_heads, -1, -1)
        self.x = self.x + attn.output(attn.attend(query, self.rows, keys, values, mask=mask))
        self.x = self.x + ffn(self.x)

    @staticmethod
    def stored(layer: int, cache: Cache, step: Step) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer in which no row of the canvas attended to all visible columns."""
        store = getattr(cache, "store", None)
        if store is None:
            raise TypeError(f"{type(cache).__name__} attends to some columns only, so no second rows can run beside it")
        keys, values = store.read(layer, step.columns)
        return keys, values
