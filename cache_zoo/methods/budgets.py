"""How many keys each layer and head keeps (MaskKV, arXiv 2510.09309, section 3.3), as pure functions."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def layer_shares(change: Tensor, alpha: float) -> Tensor:
    """Budget of each layer in units of the average one.

    Args:
        change: ``[B, L]``, how much the attention of each layer changes the residual stream, not negative.
        alpha: share that every layer gets, in [0, 1].

    Returns:
        float64 ``[B, L]`` with a mean of 1.
    """
    layers = change.shape[1]
    edge = math.ceil(layers / 4)
    boundary = torch.tensor([min(n, layers - 1 - n) < edge for n in range(layers)], device=change.device)
    change = change.double() + 1e-12  # of no importance, unless nothing changes at all
    shares = torch.empty_like(change)
    for group in (boundary, ~boundary):
        # the sum of the group, spread evenly over its layers
        shares[:, group] = change[:, group].mean(dim=1, keepdim=True)
    return alpha + (1 - alpha) * shares / shares.mean(dim=1, keepdim=True)


def head_shares(preference: Tensor, beta: float) -> Tensor:
    """Budget of each head in units of the average one of its layer.

    Args:
        preference: ``[B, L, G]``, not negative.
        beta: share that every head gets, in [0, 1].

    Returns:
        float64 ``[B, L, G]`` with a mean of 1 over ``G``.
    """
    preference = preference.double() + 1e-12
    return beta + (1 - beta) * preference / preference.mean(dim=-1, keepdim=True)


def apportion(shares: list[float], total: int, limit: int) -> list[int]:
    """Whole numbers in proportion to ``shares``, at most ``limit`` each, that sum to ``total``.

    What exceeds the limit goes to the others in proportion; rounding is by largest remainders, the first of equal ones.

    Args:
        shares: positive numbers.
        total: at most ``limit * len(shares)``.
        limit: the largest number.
    """
    exact, left, weight = [0.0] * len(shares), float(total), sum(shares)
    for n in sorted(range(len(shares)), key=lambda n: -shares[n]):
        exact[n] = min(limit, left * shares[n] / weight)
        left, weight = left - exact[n], max(weight - shares[n], shares[n] * 1e-9)
    whole = [int(value) for value in exact]
    # rounded, so that noise of the last digits does not decide between equal ones
    order = sorted(range(len(shares)), key=lambda n: round(whole[n] - exact[n], 6))
    for n in order[: total - sum(whole)]:
        whole[n] += 1
    return whole
