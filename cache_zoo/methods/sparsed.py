"""SparseD: every row runs, but after the first forwards each attends to few blocks of keys."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cache_zoo.base import Cache
from cache_zoo.blocks import AttentionBlock
from cache_zoo.errors import require, require_choice
from cache_zoo.rows import Rows
from cache_zoo.state import Canvas, Step


class SparseDCache(Cache):
    """Sparse attention with a fixed pattern (SparseD, arXiv 2509.24014, section 4, as in its code).

    The first ``int(skip * steps) + 2`` forwards attend densely; ``steps`` are those of the schedule, or ``gen_length``
    if it has none. The last of them chooses, per layer, query head and block of queries, the blocks of keys that all
    later forwards attend to. A block is as important as the sum of its attention weights. Attended are

    * of the ``int(select * n) + 1`` most important of all ``n`` blocks those of the prompt, one on its border included;
    * of the ``m`` others the ``int(select * m) + 1`` most important, by soft-max over their own keys.

    Ties go to the first block. Blocks are counted from the first token of each sequence. With suffix pruning a block
    hidden when the pattern was chosen attends and is attended densely; a row with all of its blocks hidden sees all.

    Deviates from the released code: padding is not attended; more blocks than there are means all of them.

    Args:
        skip: share of the forwards before the pattern is chosen, in [0, 1].
        select: share of the blocks attended, in [0, 1].
        block_size: positions per block, at least 1.
        scale: what the scores that rank blocks are divided by the root of: ``head_dim`` as in attention and in the
            released code for Dream, or ``num_heads`` as in that for LLaDA, which gave its published figures.

    Attributes:
        kept: per layer the blocks attended, BoolTensor ``[B, H, n, n]`` (queries, keys); empty before they are chosen.
    """

    paper = "SparseD, arXiv 2509.24014"
    exact_with: ClassVar[dict[str, Any] | None] = {"skip": 1.0}

    def __init__(
        self,
        skip: float = 0.2,
        select: float = 0.3,
        block_size: int = 128,
        scale: Literal["head_dim", "num_heads"] = "head_dim",
    ) -> None:
        require(0 <= skip <= 1, f"cache parameter 'skip' must be between 0 and 1, not {skip}")
        require(0 <= select <= 1, f"cache parameter 'select' must be between 0 and 1, not {select}")
        require(block_size >= 1, f"cache parameter 'block_size' must be at least 1, not {block_size}")
        require_choice("value of cache parameter 'scale'", scale, ("head_dim", "num_heads"))
        self.skip, self.select, self.block_size, self.scale = skip, select, block_size, scale

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        self._chosen_at = int(self.skip * (canvas.steps or canvas.gen_length)) + 1
        self.kept: list[Tensor] = []

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        rows, columns = step.rows, step.columns
        query, key, value = attn.project(attn.norm(x), rows)
        keys, values = columns.gather(rows.scatter(key)), columns.gather(rows.scatter(value))
        mask = self._mask(self.kept[layer], step) if step.index > self._chosen_at else None
        if step.index == self._chosen_at:
            self.kept.append(self._choose(query, keys, attn, step))
        return attn.output(attn.attend(query, rows, keys, values, mask=mask))

    def drop_finished(self, kept: Tensor) -> None:
        self.kept = [blocks[kept] for blocks in self.kept]

    def _choose(self, query: Tensor, keys: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        """Blocks to attend from now on, BoolTensor ``[B, H, n, n]``."""
        canvas, rows, (of_row, of_key, shown) = step.canvas, step.rows, self._blocks(step)
        lengths = torch.tensor([canvas.lengths, [n - canvas.gen_length for n in canvas.lengths]], device=query.device)
        blocks, prompt = -(-lengths // self.block_size)
        prompt, n = torch.minimum(prompt, blocks - 1), int(blocks.max())
        border = prompt.view(-1, 1, 1, 1)
        behind, generated = torch.arange(n, device=query.device) >= border, of_key[:, None, None] >= border
        members = F.one_hot(of_key, n) * shown.unsqueeze(2).float()  # [B, S, n]
        if self.scale == "num_heads":
            query = query * math.sqrt(canvas.head_dim / canvas.num_heads)
        total = torch.zeros(canvas.shape[0], canvas.num_heads, n, n, device=query.device)
        own = torch.zeros_like(total)  # the same by soft-max over the keys behind the border
        for i in range(n):
            some = Rows.from_mask(rows.mask & (of_row == i))
            if len(some):
                weights = some.pad(attn.weights(query[rows.locate(some.index)], some, keys)).transpose(1, 2)
                total[:, :, i] = weights.sum(dim=2) @ members
                own[:, :, i] = F.normalize(weights * generated, p=1, dim=3, eps=1e-38).sum(dim=2) @ members
        best_own = self._best(own.masked_fill(~behind, -torch.inf), blocks - prompt)
        absent = (members.sum(dim=1) == 0)[:, None]
        return torch.where(behind, best_own, self._best(total, blocks)) | absent.unsqueeze(2) | absent.unsqueeze(3)

    def _best(self, importance: Tensor, blocks: Tensor) -> Tensor:
        """The most important of the last axis of ``[B, H, n, n]``, of which each sequence has ``blocks`` ``[B]``."""
        counts = torch.minimum((blocks.double() * self.select).long() + 1, blocks).view(-1, 1, 1, 1)
        order = importance.sort(dim=3, descending=True, stable=True).indices
        best = torch.arange(order.shape[3], device=order.device) < counts
        return torch.zeros_like(order, dtype=torch.bool).scatter_(3, order, best.expand_as(order))

    def _blocks(self, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """Blocks of the positions, LongTensor ``[B, T]``, and of the columns read, ``[B, S]``; which of these exist."""
        block, columns = step.canvas.positions // self.block_size, step.columns
        of_key = columns.gather(block)
        return block, of_key, torch.ones_like(of_key, dtype=torch.bool) if columns.mask is None else columns.mask

    def _mask(self, kept: Tensor, step: Step) -> Tensor:
        """Keys that each row attends to, BoolTensor ``[B, H, W, S]``, for the blocks ``kept`` ``[B, H, n, n]``."""
        block, of_key, shown = self._blocks(step)
        batch, head = (torch.arange(size, device=kept.device)[:, None, None] for size in kept.shape[:2])
        of_row, shown = step.rows.pad(step.rows.read(block)), shown[:, None, None]
        mask = shown & kept[batch.unsqueeze(1), head, of_row[:, None, :, None], of_key[:, None, None]]
        return mask if step.visible is None else mask | (~mask.any(dim=3, keepdim=True) & shown)
