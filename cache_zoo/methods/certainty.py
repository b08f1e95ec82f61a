"""Certainty density: how much decided text surrounds each position (d2Cache, arXiv 2509.23094, section 4.1)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=8)
def _kernel(length: int, sigma: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Gaussian weights, normalised by the mass of the whole kernel, in float64.

    Returns ``[L, L]`` between positions, ``[L]`` of everything to the left, ``[L]`` of everything to the right.
    """
    places = torch.arange(length, device=device, dtype=torch.float64)
    offsets = torch.arange(-3 * length, 3 * length, device=device, dtype=torch.float64)
    mass = torch.exp(-(offsets**2) / (2 * sigma**2)).sum()
    extended = torch.arange(-length, 2 * length, device=device, dtype=torch.float64)
    weights = torch.exp(-((places[:, None] - extended[None, :]) ** 2) / (2 * sigma**2)) / mass
    left, inside, right = weights.split(length, dim=1)
    return inside, left.sum(1), right.sum(1)


def certainty_density(decided: Tensor, sigma: float) -> Tensor:
    """Gaussian-smoothed share of decided positions around each generated position.

    ``D(j) = sum_k w(j - k) m(k) / sum_d w(d)`` with ``w(d) = exp(-d^2 / (2 sigma^2))``. To the left of the generated
    part lies the prompt, which counts as decided for one generation length; to the right the state of the last
    position is continued for as long.

    Deviates from the released code in arithmetic only: a product with the kernel in float64 instead of an FFT in
    float32, whose rounding (about 1e-8, of either sign) is all that is left of it far from decided text.

    Args:
        decided: BoolTensor ``[B, G]``, the generated part.
        sigma: standard deviation of the kernel in positions, above 0.

    Returns:
        float32 ``[B, G]``, between 0 and 1.
    """
    inside, left, right = _kernel(decided.shape[1], float(sigma), decided.device)
    signal = decided.double()
    return (signal @ inside.T + left + signal[:, -1:] * right).float()
