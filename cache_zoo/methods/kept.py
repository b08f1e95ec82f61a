"""Keys and values that stay from an earlier forward, gathered without gaps (Sparse-dLLM, MaskKV)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cache_zoo.blocks import AttentionBlock
from cache_zoo.rows import Rows
from cache_zoo.state import Canvas


def slot_canvas(canvas: Canvas, num_layers: int, width: int) -> Canvas:
    """A canvas of ``width`` slots per sequence for a store of kept keys; which column a slot holds, the cache knows."""
    slots = torch.ones(canvas.shape[0], width, dtype=torch.bool, device=canvas.device)
    lengths, positions = [width] * canvas.shape[0], slots.cumsum(dim=1) - 1
    return replace(canvas, valid=slots, lengths=lengths, positions=positions, num_layers=num_layers)


def first(counts: list[int], width: int, device: torch.device) -> Tensor:
    """The first ``counts[b]`` of ``width`` places, BoolTensor ``[B, width]``."""
    return torch.arange(width, device=device) < torch.tensor(counts, device=device).unsqueeze(1)


def attend_kept(
    attn: AttentionBlock,
    query: Tensor,
    rows: Rows,
    kept: tuple[Tensor, Tensor],
    mask: Tensor,
    new: tuple[Tensor, Tensor],
) -> Tensor:
    """Attention over kept keys and those of the rows that run, ``[N, H * E]``.

    Args:
        attn: the layer's sub-block.
        query: of ``rows``, rotated.
        rows: the rows that run.
        kept: keys and values ``[B, K, G, E]``.
        mask: kept keys to attend, BoolTensor ``[B, K]``, or ``[B, G, K]`` by key head.
        new: keys and values of ``rows``, ``[N, G, E]``.
    """
    running = first(rows.counts, rows.width, query.device)
    if mask.dim() == 3:
        running = running.unsqueeze(1).expand(-1, mask.shape[1], -1)
    keys, values = (torch.cat((old, rows.pad(packed)), dim=1) for old, packed in zip(kept, new, strict=True))
    return attn.attend(query, rows, keys, values, mask=torch.cat((mask, running), dim=-1))
