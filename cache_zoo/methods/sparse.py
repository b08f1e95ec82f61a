"""Sparse-dLLM: each block keeps the keys and values outside it that its queries point at most."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cache_zoo.base import KVCache
from cache_zoo.blocks import AttentionBlock
from cache_zoo.errors import require, require_choice
from cache_zoo.methods.kept import attend_kept, first, slot_canvas
from cache_zoo.rows import Rows
from cache_zoo.state import Canvas, Step


class SparseCache(KVCache):
    """Dynamic cache eviction with delayed updates (Sparse-dLLM, arXiv 2508.02558).

    The first two forwards of each block run every row and attend to all of them. In the second, each layer keeps keys
    and values of ``floor(keep_ratio * n)`` of the ``n`` columns outside the block, the same for all heads; later
    forwards run the block alone and attend to these and to the block. A column's score is the product of its key with
    the mean query of the block, averaged over query heads, then max-pooled over neighbours (the columns before and
    behind the block are neighbours). A block that moves starts again with two full forwards.

    Deviates from the released code: padding and columns that a suffix hides are never candidates; with shifted models
    (Dream) the rows of a block start one before it, unless its first forward commits its first token.

    Args:
        keep_ratio: share of the columns outside the block that is kept, in [0, 1].
        kernel_size: width of the max-pooling, odd; 1 for none.
        ties: of equal scores, which pooling makes frequent, ``lowest`` keeps the lowest columns, on every machine;
            ``topk`` those that ``torch.topk`` happens to return, as the released code does.
    """

    paper = "Sparse-dLLM, arXiv 2508.02558"
    needs_blocks = True
    keeps_columns = False
    exact_with: ClassVar[dict[str, Any] | None] = {}

    def __init__(
        self, keep_ratio: float = 0.5, kernel_size: int = 3, ties: Literal["lowest", "topk"] = "lowest"
    ) -> None:
        require(0 <= keep_ratio <= 1, f"cache parameter 'keep_ratio' must be between 0 and 1, not {keep_ratio}")
        odd = kernel_size >= 1 and kernel_size % 2 == 1
        require(odd, f"cache parameter 'kernel_size' must be odd and at least 1 (1 pools nothing), not {kernel_size}")
        require_choice("value of cache parameter 'ties'", ties, ("lowest", "topk"))
        self.keep_ratio, self.kernel_size, self.ties = keep_ratio, kernel_size, ties

    def start(self, canvas: Canvas) -> None:
        batch, length = canvas.shape
        slots = slot_canvas(canvas, canvas.num_layers, max(1, int(self.keep_ratio * length)))
        super().start(slots)
        self._slots = slots.all_columns
        self._columns = torch.zeros(canvas.num_layers, *slots.shape, dtype=torch.long, device=canvas.device)
        self._kept = [0] * batch  # slots in use
        self._bounds = [(0, 0)] * batch
        self._forwards = [0] * batch  # before this one, in the same block

    def rows(self, step: Step) -> Tensor | None:
        canvas, batch = step.canvas, range(len(step.bounds))
        same = [step.block_step[b] > 0 and step.bounds[b] == self._bounds[b] for b in batch]
        self._forwards = [self._forwards[b] + 1 if same[b] else 0 for b in batch]
        self._bounds = list(step.bounds)
        column = canvas.columns + canvas.window_shift
        window = (column >= step.block_start) & (column < step.block_end)
        if 1 in self._forwards:
            due = torch.tensor(self._forwards, device=canvas.device).unsqueeze(1) == 1
            visible = due & (canvas.valid if step.visible is None else step.visible)
            self._inside, self._outside = Rows.from_mask(visible & window), Rows.from_mask(visible & ~window)
            found = [int(self.keep_ratio * count) for count in self._outside.counts]  # 0 where not due
            self._kept = [found[b] if self._forwards[b] == 1 else self._kept[b] for b in batch]
            self._chosen = Rows.from_mask(first(found, self._columns.shape[2], canvas.device))
        if max(self._forwards) < 2:
            return None
        return window | (torch.tensor(self._forwards, device=canvas.device).unsqueeze(1) < 2)

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        rows = step.rows
        query, key, value = attn.project(attn.norm(x), rows)
        if 1 in self._forwards:
            at = rows.locate(self._choose(layer, query, key, step))
            self.store.write(layer, self._chosen, key[at], value[at])
        if max(self._forwards) < 2:
            keys, values = (step.columns.gather(rows.scatter(packed)) for packed in (key, value))
            return attn.output(attn.attend(query, rows, keys, values))
        counts = [kept if forwards >= 2 else 0 for kept, forwards in zip(self._kept, self._forwards, strict=True)]
        mask = first(counts, self._columns.shape[2], x.device)
        if step.visible is not None:
            mask = mask & step.visible.gather(1, self._columns[layer])
        kept = self.store.read(layer, self._slots)
        return attn.output(attend_kept(attn, query, rows, kept, mask, (key, value)))

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        self._columns, some = self._columns[:, kept], kept.tolist()
        self._kept, self._forwards = [self._kept[b] for b in some], [self._forwards[b] for b in some]
        self._bounds = [self._bounds[b] for b in some]

    def _choose(self, layer: int, query: Tensor, key: Tensor, step: Step) -> Tensor:
        """Flat canvas positions of the columns to keep in this layer, LongTensor ``[N]``; notes their columns."""
        inside, outside, locate = self._inside, self._outside, step.rows.locate
        step.work.products(len(outside) * key[0].numel())
        queries = query[locate(inside.index)].float().split(inside.counts)
        keys = key[locate(outside.index)].float().split(outside.counts)
        chosen = [outside.index[:0]]
        for b, index in enumerate(outside.index.split(outside.counts)):
            if count := self._chosen.counts[b]:
                mean = queries[b].mean(dim=0).unflatten(0, (key.shape[1], -1)).sum(dim=1) / query.shape[1]
                score = torch.einsum("sge,ge->s", keys[b], mean).unsqueeze(0)
                pooled = F.max_pool1d(score, self.kernel_size, stride=1, padding=self.kernel_size // 2)[0]
                order = pooled.topk(count) if self.ties == "topk" else pooled.sort(descending=True, stable=True)
                chosen.append(index[order.indices[:count].sort().values])
        flat = torch.cat(chosen)
        self._chosen.write(self._columns[layer], flat % step.rows.shape[1])
        return flat
