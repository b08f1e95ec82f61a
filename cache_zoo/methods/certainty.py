"""Certainty density, and the masked positions it favours (d2Cache, arXiv 2509.23094, section 4.1)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=8)
def _kernel(length: int, sigma: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Gaussian weights, normalised by the mass of the whole kernel, in float64.

    Returns ``[L, L]`` between positions, ``[L]`` for everything to the left, ``[L]`` for everything to the right.
    """
    places = torch.arange(length, device=device, dtype=torch.float64)
    offsets = torch.arange(-3 * length, 3 * length, device=device, dtype=torch.float64)
    mass = torch.exp(-(offsets**2) / (2 * sigma**2)).sum()
    extended = torch.arange(-length, 2 * length, device=device, dtype=torch.float64)
    weights = torch.exp(-((places[:, None] - extended[None, :]) ** 2) / (2 * sigma**2)) / mass
    left, inside, right = weights.split(length, dim=1)
    return inside, left.sum(1), right.sum(1)


def certainty_density(committed: Tensor, sigma: float) -> Tensor:
    """Gaussian-smoothed share of committed positions around each generated position.

    ``D(j) = sum_k w(j - k) m(k) / sum_d w(d)`` with ``w(d) = exp(-d^2 / (2 sigma^2))``. The prompt counts as one
    generation length of committed text on the left; the state of the last position continues as far on the right.

    Deviates from the released code in arithmetic only: a product with the kernel in float64 instead of an FFT in
    float32, whose rounding error (about 1e-8, of either sign) dominates far from committed text.

    Args:
        committed: BoolTensor ``[B, G]``, the generated part.
        sigma: standard deviation of the kernel in positions, above 0.

    Returns:
        float32 ``[B, G]``, between 0 and 1.
    """
    inside, left, right = _kernel(committed.shape[1], float(sigma), committed.device)
    signal = committed.double()
    return (signal @ inside.T + left + signal[:, -1:] * right).float()


def most_certain(score: Tensor, masked: Tensor, first: Tensor, count: int, block_length: int) -> Tensor:
    """The ``count`` masked positions of the window with the highest score, those of ``first`` before all others.

    The window starts at ``first`` and ends with the block in which the ``count``-th masked position lies.

    Args:
        score: float32 ``[B, G]``.
        masked, first: BoolTensors ``[B, G]``.
        count: positions to choose.
        block_length: width of a block.

    Returns:
        BoolTensor ``[B, G]``, a subset of ``masked``.
    """
    length = masked.shape[1]
    columns = torch.arange(length, device=masked.device)
    enough = masked.cumsum(dim=1) >= count
    last = torch.where(enough.any(dim=1), enough.int().argmax(dim=1), length - 1)
    end = (last // block_length + 1) * block_length
    start = first.int().argmax(dim=1)
    window = masked & (columns >= start[:, None]) & (columns < end[:, None])
    order = score.masked_fill(~window, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    # A stable sort by two keys: adding a bonus to the score would round small differences away.
    favoured = (window & first).gather(1, order).sort(dim=1, descending=True, stable=True).indices
    best = order.gather(1, favoured)[:, :count]
    return torch.zeros_like(masked).scatter_(1, best, True) & masked
