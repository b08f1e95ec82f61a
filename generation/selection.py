"""How many tokens a forward commits, and which ones."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from generation.options import GenerationOptions


def quota(
    options: GenerationOptions, forwards: int, masks: int, *, block: int = 0, later: int = 0, given: int = 0
) -> int:
    """Tokens to commit in a block after ``forwards`` forwards.

    With ``steps`` a block has ``S = steps / blocks`` forwards. ``schedule=even`` is LLaDA's (arXiv 2502.09992, appendix
    A.3): a block of ``n`` tokens commits ``n // S`` per forward, and one more in each of the first ``n % S``.
    ``schedule=dream`` is Dream's (arXiv 2508.15487): the share of the masks left that `dream_share` gives, rounded
    down, and the rest in the last forward; it may be 0. ``schedule=dream_canvas`` is FlashDLM's (arXiv 2505.21467): the
    same over the masks and the forwards of the whole canvas, at most the block, and in a block's last forward its rest.

    Args:
        options: ``steps``, ``schedule``, ``eps``, ``num_transfer_tokens`` and the lengths are read.
        forwards: forwards spent in the block before.
        masks: positions of the block still to commit.
        block: index of the block.
        later: positions still to commit behind it.
        given: positions of the block that held a token from the beginning.
    """
    if options.steps is None:
        return options.num_transfer_tokens
    per_block = block_forwards(options)
    if options.schedule == "even":
        base, surplus = divmod(options.block - given, per_block)
        return max(1, base + (forwards < surplus))
    if forwards >= per_block - 1:
        return masks
    if options.schedule == "dream":
        return int(masks * dream_share(per_block, options.eps, forwards))
    share = dream_share(options.steps, options.eps, block * per_block + forwards)
    return min(masks, int((masks + later) * share))


def block_forwards(options: GenerationOptions) -> int:
    """Forwards that ``steps`` give each block; ``steps`` must be set."""
    assert options.steps is not None
    return options.steps // (options.gen_length // options.block)


def dream_share(forwards: int, eps: float, number: int) -> Tensor:
    """Share of the masks that Dream commits in forward ``number``, ``1 - t[number + 1] / t[number]``, scalar float32.

    Args:
        forwards: of the schedule; its times ``t`` run evenly from 1 to ``eps``.
        eps: the last time.
        number: from 0 to ``forwards - 1``.
    """
    times = dream_times(forwards, eps)
    return 1 - times[number + 1] / times[number]


@lru_cache
def dream_times(forwards: int, eps: float) -> Tensor:
    """Times of Dream's schedule before each forward and after the last one, float32 ``[forwards + 1]``, on the CPU.

    A position with a uniform number ``u`` that is committed as soon as ``u >= t`` is committed in forward ``number``
    with probability `dream_share`, if it has not been before (Dream's ``alg=origin``).
    """
    return torch.linspace(1, eps, forwards + 1)


def commit_best(
    score: Tensor,
    eligible: Tensor,
    least: Tensor,
    options: GenerationOptions,
    threshold: Tensor | None = None,
    entropy: Tensor | None = None,
) -> Tensor:
    """The best eligible positions: as many as the rule of ``options`` allows, and at least ``least``.

    Equal scores go to the lowest position.

    Args:
        score: float32 ``[B, G]``.
        eligible: BoolTensor ``[B, G]``.
        least: LongTensor ``[B]``; if fewer are eligible, all of them are committed.
        options: ``threshold``, ``factor``, ``frechet`` and ``gamma`` are read.
        threshold: float32 ``[B]``, one per sequence instead of that of ``options``.
        entropy: float32 ``[B, G]``, for ``gamma``.

    Returns:
        BoolTensor ``[B, G]``.
    """
    score = score.masked_fill(~eligible, -torch.inf)
    ordered, order = score.sort(dim=1, descending=True, stable=True)
    number = least
    if options.threshold is not None:
        limit = options.threshold if threshold is None else threshold[:, None]
        number = torch.maximum(least, (ordered >= limit).sum(dim=1))
    elif options.factor is not None:
        number = torch.maximum(least, factor_count(ordered, options.factor, options.factor_rule))
    elif options.frechet is not None:
        number = torch.maximum(least, frechet_count(ordered, options.frechet))
    elif options.gamma is not None:
        assert entropy is not None
        entropy = entropy.masked_fill(~eligible, torch.inf)
        number = torch.maximum(least, entropy_count(entropy.gather(1, order), options.gamma))
    rank = torch.arange(score.shape[1], device=score.device)
    return torch.zeros_like(eligible).scatter_(1, order, rank < number[:, None]) & eligible


def ranks(score: Tensor, chosen: Tensor) -> Tensor:
    """1, 2, ... at the positions of ``chosen`` (BoolTensor ``[B, G]``) from the best ``score`` down, 0 elsewhere."""
    order = score.masked_fill(~chosen, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return (order.argsort(dim=1) + 1) * chosen


def damped_threshold(threshold: float, alpha: float, masked: Tensor, ran: Tensor, starts: list[int]) -> Tensor:
    """Streaming-dLLM's dynamic threshold ``threshold * (1 - alpha * (1 - r))`` (arXiv 2601.17917), float32 ``[B]``.

    ``r`` is the share of masks among the rows that ran from the start of the block on, those of the suffix included. In
    the first forward of a block nothing of it is committed yet, so ``r`` is 1, and the threshold as it was given.

    Args:
        threshold, alpha: as in `GenerationOptions`.
        masked: BoolTensor ``[B, G]``, masks before the step.
        ran: BoolTensor ``[B, G]``, positions whose row ran.
        starts: first column of each sequence's block, in the generated part.
    """
    columns = torch.arange(masked.shape[1], device=masked.device)
    behind = ran & (columns >= torch.tensor(starts, device=masked.device)[:, None])
    share = (behind & masked).sum(dim=1) / behind.sum(dim=1).clamp(min=1)
    return threshold * (1 - alpha * (1 - share))


def factor_count(ordered: Tensor, factor: float, rule: str = "exact") -> Tensor:
    """Largest ``n`` with ``(n + 1)(1 - c_n) < factor`` (Fast-dLLM, arXiv 2505.22618, theorem 1), 0 if there is none.

    Both released versions are off by one at the last candidate, in opposite directions. ``rule`` repeats them:

    * ``with_last`` (Fast-dLLM): at least 1; if all but the last of several candidates pass, the last passes too;
      equality passes.
    * ``without_last`` (d2Cache's code): if all candidates pass, the last does not.

    Args:
        ordered: confidences ``[B, G]`` in descending order, ``-inf`` after the last.
        factor: above 0.
        rule: ``exact``, ``with_last`` or ``without_last``.

    Returns:
        LongTensor ``[B]``.
    """
    place = torch.arange(2, ordered.shape[1] + 2, device=ordered.device)
    # (n + 1)(1 - c_n) grows with n, so the candidates that pass come first
    if rule == "exact":
        return (place * (1 - ordered) < factor).sum(dim=1)
    candidates = (ordered > -torch.inf).sum(dim=1)
    if rule == "without_last":
        passed = (place * (1 - ordered) < factor).sum(dim=1)
        return passed - ((passed == candidates) & (candidates > 0)).long()
    passed = 1 + (ordered >= 1 - factor / place)[:, 1:].sum(dim=1)
    return passed + (passed == candidates - 1).long()


def frechet_count(ordered: Tensor, margin: float) -> Tensor:
    """Largest ``n`` with ``(c_1 + ... + c_n - (n - 1)) - (1 - c_n) > margin`` (Fast-dLLM++, arXiv 2606.02955), or 0.

    The first term is the Frechet bound: no joint probability of the ``n`` tokens is lower. It is not cut at 0, as in
    the released code, so a negative ``margin`` lets more pass.

    Args:
        ordered: confidences ``[B, G]`` in descending order, ``-inf`` after the last.
        margin: ``frechet``.

    Returns:
        LongTensor ``[B]``.
    """
    place = torch.arange(ordered.shape[1], device=ordered.device)
    ordered = ordered.double()
    return (ordered.cumsum(dim=1) - place - (1 - ordered) > margin).sum(dim=1)  # it falls with n


def entropy_count(ordered: Tensor, limit: float) -> Tensor:
    """Largest ``n`` whose first ``n`` entropies sum to at most ``limit`` without the highest of them, or 0.

    That difference bounds what the joint distribution of ``n`` tokens can differ from the product of their own
    (EB-Sampler, arXiv 2505.24857, section 4).

    Args:
        ordered: entropies ``[B, G]`` in the order in which tokens are committed, ``inf`` after the last.
        limit: ``gamma``.

    Returns:
        LongTensor ``[B]``.
    """
    highest = ordered.cummax(dim=1).values
    # it grows with n, and behind the last entropy it is inf - inf
    return ((ordered.cumsum(dim=1) - highest <= limit) & ordered.isfinite()).sum(dim=1)
