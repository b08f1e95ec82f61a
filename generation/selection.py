"""How many tokens a forward commits, and which ones."""

from __future__ import annotations

import torch
from torch import Tensor

from generation.options import GenerationOptions


def quota(options: GenerationOptions, forwards: int) -> int:
    """Tokens to commit in a block after ``forwards`` forwards.

    With ``steps`` it is LLaDA's schedule (arXiv 2502.09992, appendix A.3): a block of ``n`` masks and ``S`` forwards
    commits ``n // S`` per forward, and one more in each of the first ``n % S``.
    """
    if options.steps is None:
        return options.num_transfer_tokens
    per_block = options.steps // (options.gen_length // options.block)
    base, surplus = divmod(options.block, per_block)
    return base + (forwards < surplus)


def commit_best(score: Tensor, eligible: Tensor, least: Tensor, options: GenerationOptions) -> Tensor:
    """The best eligible positions: as many as threshold or factor allow, and at least ``least``.

    Equal scores go to the lowest position.

    Args:
        score: float32 ``[B, G]``.
        eligible: BoolTensor ``[B, G]``.
        least: LongTensor ``[B]``; if fewer are eligible, all of them are committed.
        options: ``threshold`` and ``factor`` are read.

    Returns:
        BoolTensor ``[B, G]``.
    """
    score = score.masked_fill(~eligible, -torch.inf)
    ordered, order = score.sort(dim=1, descending=True, stable=True)
    number = least
    if options.threshold is not None:
        number = torch.maximum(least, (ordered >= options.threshold).sum(dim=1))
    elif options.factor is not None:
        number = torch.maximum(least, factor_count(ordered, options.factor))
    rank = torch.arange(score.shape[1], device=score.device)
    return torch.zeros_like(eligible).scatter_(1, order, rank < number[:, None]) & eligible


def factor_count(ordered: Tensor, factor: float) -> Tensor:
    """Largest ``n`` with ``(n + 1)(1 - c_n) < factor`` (Fast-dLLM, arXiv 2505.22618, theorem 1), 0 if there is none.

    Deviates from both released versions, which are off by one at the last candidate in opposite directions.

    Args:
        ordered: confidences ``[B, G]`` in descending order, ``-inf`` after the last.
        factor: above 0.

    Returns:
        LongTensor ``[B]``.
    """
    place = torch.arange(2, ordered.shape[1] + 2, device=ordered.device)
    # (n + 1)(1 - c_n) grows with n, so the candidates that pass come first
    return (place * (1 - ordered) < factor).sum(dim=1)
