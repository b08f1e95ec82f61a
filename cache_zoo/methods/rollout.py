"""Attention rollout and the choice of rows by it (d2Cache, arXiv 2509.23094, section 4.2), as pure functions."""

from __future__ import annotations

import torch
from torch import Tensor

from cache_zoo.rows import Rows


def rollout_importance(weights: list[Tensor], rows: Rows) -> Tensor:
    """Column sums of the attention rollout, by one sweep from the last layer to the first.

    The rollout is the product over layers of ``(A + I) / (rowsum(A) + 1)``, where ``A`` holds the head-mean attention
    of the rows that ran and identity rows for the others (Abnar & Zuidema, arXiv 2005.00928). Its column sums are
    ``1^T R_L ... R_1``: a vector times one matrix per layer, which differs from the identity only in the rows that ran.
    So a step of ``R`` rows costs ``2 R T`` per layer and forms no ``T x T`` matrix.

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
    """The most important positions of ``among`` whose shares sum to at most ``mass``, always at least one.

    Args:
        importance: non-negative ``[B, T]``.
        mass: between 0 and 1.
        among: BoolTensor ``[B, T]``, positions to choose from.

    Returns:
        BoolTensor ``[B, T]``, a subset of ``among``.
    """
    if mass >= 1:  # rounding of the cumulative sum would drop the least important ones
        return among
    share = importance.masked_fill(~among, 0)
    share = share / (share.sum(dim=1, keepdim=True) + 1e-9)
    ordered, order = share.sort(dim=1, descending=True, stable=True)
    inside = ordered.cumsum(dim=1) <= mass
    inside[:, 0] = True
    return torch.zeros_like(among).scatter_(1, order, inside) & among


def inflate(chosen: Tensor, window: int) -> Tensor:
    """Fill each gap between consecutive chosen positions whose index distance is at most ``window``.

    Args:
        chosen: BoolTensor ``[B, T]``.
        window: index distance; it fills a gap of ``window - 1`` positions, but none of ``window``.
    """
    length = chosen.shape[1]
    columns = torch.arange(length, device=chosen.device).expand_as(chosen)
    window = min(window, length)
    far = 2 * length + window  # no chosen position on that side
    before = torch.where(chosen, columns, -far).cummax(dim=1).values
    after = torch.where(chosen, columns, far).flip(1).cummin(dim=1).values.flip(1)
    return chosen | (after - before <= window)
