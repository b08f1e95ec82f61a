"""From logits of masked positions to a token and a confidence for each of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from generation.options import GenerationOptions


def propose(
    logits: Tensor, options: GenerationOptions, mask_id: int, generators: list[torch.Generator], counts: list[int]
) -> tuple[Tensor, Tensor]:
    """A token and its confidence for each row (Dream's rule, arXiv 2508.15487: temperature, top-p, top-k, soft-max).

    [MASK] itself is never proposed, but keeps its share of the probability.

    Deviates from LLaDA's script at temperature above 0, where the confidence is the probability before tempering.

    Args:
        logits: float32 ``[M, V]``, overwritten.
        options: temperature, top_p, top_k and alg are read.
        mask_id: id of [MASK].
        generators: one per sequence, drawn from only where something is random.
        counts: rows of each sequence; they add up to ``M``.

    Returns:
        LongTensor ``[M]`` and float32 ``[M]``.
    """
    if options.temperature > 0:
        logits = logits / options.temperature
    raw = logits
    if options.top_p is not None and options.top_p < 1:
        logits = keep_nucleus(logits, options.top_p)
    if options.top_k is not None and options.top_k < logits.shape[1]:
        least = logits.topk(options.top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)

    mass = logits.logsumexp(dim=1)
    if options.alg == "entropy":
        probability = (logits - mass[:, None]).exp()
        confidence = (probability * (probability + 1e-10).log()).sum(dim=1)
    elif options.alg == "topk_margin":
        best = (logits.topk(2, dim=1).values - mass[:, None]).exp()
        confidence = best[:, 0] - best[:, 1]
    elif options.alg == "random":
        confidence = _per_sequence(logits[:, 0], generators, counts, _uniform)

    logits[:, mask_id] = -torch.inf
    if logits is not raw:  # a filter may have left [MASK] alone
        raw[:, mask_id] = -torch.inf
        logits = torch.where(logits.isneginf().all(dim=1, keepdim=True), raw, logits)
    if options.temperature > 0:
        tokens = _per_sequence(logits, generators, counts, _draw)
        chosen = logits.gather(1, tokens[:, None]).squeeze(1)
    else:
        chosen, tokens = logits.max(dim=1)
    if options.alg == "maskgit_plus":
        confidence = (chosen - mass).exp()
    return tokens, confidence


def keep_nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Set to -inf all logits ``[M, V]`` but the likeliest that reach a mass of ``top_p``, the one that crosses it kept."""
    ordered, order = logits.sort(dim=1, descending=True, stable=True)
    mass = ordered.softmax(dim=1).cumsum(dim=1)
    beyond = torch.zeros_like(mass, dtype=torch.bool)
    beyond[:, 1:] = mass[:, :-1] > top_p
    return logits.masked_fill(torch.zeros_like(beyond).scatter_(1, order, beyond), -torch.inf)


def _per_sequence(
    rows: Tensor,
    generators: list[torch.Generator],
    counts: list[int],
    draw: Callable[[Tensor, torch.Generator], Tensor],
) -> Tensor:
    """``draw`` for the rows of each sequence from its own generator, so that a batch changes no sequence's luck."""
    parts = rows.split(counts)
    return torch.cat([draw(part, generator) for part, generator in zip(parts, generators, strict=True)])


def _uniform(part: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(part.shape, generator=generator, device=part.device)


def _draw(part: Tensor, generator: torch.Generator) -> Tensor:
    if not len(part):
        return part.new_zeros(0, dtype=torch.long)
    return torch.multinomial(part.softmax(dim=1), 1, generator=generator).squeeze(1)
