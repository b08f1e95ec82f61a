"""A token and its confidence for each masked position, from its logits."""

from __future__ import annotations

from hashlib import blake2b

import torch
from torch import Tensor

from generation.options import GenerationOptions


def propose(
    logits: Tensor,
    options: GenerationOptions,
    mask_id: int,
    uniform: Tensor | None = None,
    *,
    eos_id: int | None = None,
    eot_id: int | None = None,
) -> tuple[Tensor, Tensor]:
    """A token and its confidence for each row (Dream's rule, arXiv 2508.15487: temperature, top-p, top-k, soft-max).

    [MASK] itself is never proposed, but keeps its share of the probability.

    Deviates from LLaDA's script above temperature 0: there the confidence is the probability before tempering, and
    ``confidence_eos_eot_inf`` affects the end-of-turn token only; here both are the same at every temperature.

    Args:
        logits: float32 ``[M, V]``, overwritten.
        options: temperature, top_p, top_k, alg, logits_eos_inf and confidence_eos_eot_inf are read.
        mask_id: id of [MASK].
        uniform: numbers in [0, 1), ``[M]``, to draw the tokens; required above temperature 0.
        eos_id, eot_id: end-of-sequence and end-of-turn token; None if the model has none.

    Returns:
        LongTensor ``[M]`` and float32 ``[M]``.
    """
    raw, logits = _shaped(logits, options, eos_id)
    ends = [token for token in (eos_id, eot_id) if token is not None] if options.confidence_eos_eot_inf else []
    mass = _mass_without(logits, ends)
    confidence = None
    if options.alg == "entropy":
        probability = (logits - mass[:, None]).exp()
        confidence = (probability * (probability + 1e-10).log()).sum(dim=1)
    elif options.alg == "topk_margin":
        best = (logits.topk(2, dim=1).values - mass[:, None]).exp()
        confidence = best[:, 0] - best[:, 1]

    logits[:, mask_id] = -torch.inf
    if logits is not raw:  # the filters may have kept nothing but [MASK]
        raw[:, mask_id] = -torch.inf
        logits = torch.where(logits.isneginf().all(dim=1, keepdim=True), raw, logits)
    if options.temperature > 0:
        assert uniform is not None
        tokens = draw(logits, uniform)
        chosen = logits.gather(1, tokens[:, None]).squeeze(1)
    else:
        chosen, tokens = logits.max(dim=1)
    if confidence is None:  # the probability of the token
        confidence = (chosen - mass).exp()
        for token in ends:
            confidence = confidence.masked_fill(tokens == token, 0.0)
    return tokens, confidence


def probability_of(tokens: Tensor, logits: Tensor, options: GenerationOptions, *, eos_id: int | None = None) -> Tensor:
    """Probability of ``tokens`` ``[M]`` under ``logits`` ``[M, V]`` (overwritten), float32 ``[M]``.

    The confidence that `propose` gives with ``alg=maskgit_plus``, of tokens that are known.
    """
    _, logits = _shaped(logits, options, eos_id)
    return (logits.gather(1, tokens[:, None]).squeeze(1) - logits.logsumexp(dim=1)).exp()


def _shaped(logits: Tensor, options: GenerationOptions, eos_id: int | None) -> tuple[Tensor, Tensor]:
    """``logits`` ``[M, V]`` (overwritten) after tempering, and those after the filters as well."""
    if options.logits_eos_inf and eos_id is not None:
        logits[:, eos_id] = -torch.inf
    if options.temperature > 0:
        logits = logits / options.temperature
    raw = logits
    if options.top_p is not None and options.top_p < 1:
        logits = keep_nucleus(logits, options.top_p)
    if options.top_k is not None and options.top_k < logits.shape[1]:
        least = logits.topk(options.top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    return raw, logits


def entropy_of(logits: Tensor) -> Tensor:
    """Entropy in nats ``[M]`` of the soft-max of ``logits`` ``[M, V]``; a logit of -inf has no share."""
    log_probability = logits.log_softmax(dim=1)
    return -(log_probability.exp() * log_probability).nan_to_num_().sum(dim=1)


def _mass_without(logits: Tensor, tokens: list[int]) -> Tensor:
    """Log ``[M]`` of the soft-max denominators of ``logits`` ``[M, V]`` without the share of ``tokens``."""
    if not tokens:
        return logits.logsumexp(dim=1)
    kept = logits[:, tokens].clone()
    logits[:, tokens] = -torch.inf
    mass = logits.logsumexp(dim=1)
    logits[:, tokens] = kept
    return mass


def keep_nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keep the likeliest logits ``[M, V]``, including the first that takes their mass above ``top_p``; others: -inf."""
    ordered, order = logits.sort(dim=1, descending=True, stable=True)
    mass = ordered.softmax(dim=1).cumsum(dim=1)
    beyond = torch.zeros_like(mass, dtype=torch.bool)
    beyond[:, 1:] = mass[:, :-1] > top_p
    return logits.masked_fill(torch.zeros_like(beyond).scatter_(1, order, beyond), -torch.inf)


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw one token per row of ``logits`` ``[M, V]`` by inverse transform of ``uniform`` ``[M]`` in [0, 1)."""
    mass = logits.double().softmax(dim=1).cumsum(dim=1)
    at = torch.searchsorted(mass, uniform.double()[:, None] * mass[:, -1:], right=True).squeeze(1)
    return at.clamp_(max=logits.shape[1] - 1)


def uniform_of(seeds: list[int], length: int, purpose: str) -> Tensor:
    """Uniform numbers in [0, 1) of each sequence for one purpose, float32 ``[B, length]``, on the CPU.

    They depend on the sequence's seed and on ``purpose`` alone, neither on the batch nor on what was drawn before.
    """
    drawn = []
    for seed in seeds:
        # mixed, because neighbouring seeds are common and the same seed draws tokens
        mixed = int.from_bytes(blake2b(f"{purpose} {seed}".encode(), digest_size=8).digest(), "little")
        drawn.append(torch.rand(length, generator=torch.Generator().manual_seed(mixed)))
    return torch.stack(drawn)


def gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel noise from ``uniform`` numbers in [0, 1), finite.

    The ``k`` highest of ``log p + gumbel`` are ``k`` draws in proportion to ``p`` without replacement.
    """
    return -(-(uniform.clamp(min=torch.finfo(uniform.dtype).tiny)).log()).log()
