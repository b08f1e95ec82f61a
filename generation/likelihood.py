"""Log-likelihoods of given answers, as estimated by LLaDA's and Dream's evaluations, and whether greedy agrees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from cache_zoo import Cache, Step, UsageError
from cache_zoo.errors import require, require_choice
from generation.finite_logits import extremes, require_finite
from generation.options import GenerationOptions
from generation.output import Counts
from generation.sampling import propose
from models import Transformer

ESTIMATORS = ("llada", "dream")
_MIN_MASK_RATE = 1e-3
"""Dream draws masking rates from here to 1; below, the weight of a single masked token would have no bound."""

Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a prompt and of an answer, neither empty."""


@dataclass(frozen=True)
class LikelihoodOptions:
    """How a log-likelihood is estimated. Checked on construction.

    Attributes:
        mc_num: draws per answer. If an answer of ``L`` tokens has no more masks than that, ``2**L - 1``, all are summed
            instead, which is the limit of the estimate.
        estimator: ``llada`` or ``dream``; None: that of the model's family.
    """

    mc_num: int = 128
    estimator: str | None = None

    def __post_init__(self) -> None:
        require(self.mc_num >= 1, f"mc_num must be at least 1, not {self.mc_num}")
        if self.estimator is not None:
            require_choice("estimator", self.estimator, ESTIMATORS)


@dataclass(frozen=True)
class Likelihood:
    """Score of one answer.

    Attributes:
        value: estimate of ``log p(answer | prompt)``, in nats; its expectation is a lower bound.
        greedy: greedy decoding, one token per forward, produces the answer.
        forwards: canvases run for it.
    """

    value: float
    greedy: bool
    forwards: int


@torch.inference_mode()
def log_likelihoods(
    model: Transformer,
    pairs: Sequence[Pair],
    options: LikelihoodOptions | None = None,
    *,
    seeds: Sequence[int],
    batch_size: int = 1,
) -> tuple[list[Likelihood], Counts]:
    """Score answers given their prompts.

    Each draw masks some of an answer's ``L`` tokens and sums their log-probabilities. Both estimators weight the sums
    so that the expectation is ``sum_l 1/l * mean over masks of l tokens``, a lower bound of the log-likelihood:

    - ``llada`` (arXiv 2502.09992, equation 14; ``get_log_likelihood.py``): exactly ``l`` tokens, weight ``L / l``;
      ``l`` runs through 1 .. L in equal shares of the draws, from a random start.
    - ``dream`` (``_eval_target_nll_mc`` of its evaluation): each token with probability ``t``, weight ``1 / t``; ``t``
      runs through 0.001 .. 1. The end-of-sequence token follows the answer and is never masked.

    Deviates from both scripts: shares are of all draws of an answer, not of one batch, so the result does not depend on
    the batch size; ``l`` is rounded down, because rounding halves to even, as in LLaDA's script, prefers even numbers;
    equal masks run once; all masks of a short answer are summed exactly. Dream's script reports no answer as greedy;
    here LLaDA's rule serves both.

    Args:
        model: from `models.load_model`.
        pairs: prompts and answers.
        options: None: the defaults.
        seeds: random stream of each pair; the masks of a pair depend on nothing else.
        batch_size: canvases run together.

    Returns:
        One `Likelihood` per pair, and the work.

    Raises:
        UsageError: a prompt or an answer is empty.
        NotFiniteError: a logit is NaN or infinite; the message names the place where it arises.
    """
    options = options or LikelihoodOptions()
    for number, (prompt, answer) in enumerate(pairs):
        require(len(prompt) > 0 and len(answer) > 0, f"pair {number} has an empty prompt or answer")
    if len(seeds) != len(pairs):
        raise UsageError(f"there are {len(seeds)} seeds for {len(pairs)} pairs; give one per pair")
    estimator = options.estimator or model.config.family
    suffix = [model.config.eos_id] if estimator == "dream" else []
    work: list[_Masked] = []
    for number, ((prompt, answer), seed) in enumerate(zip(pairs, seeds, strict=True)):
        masks, weights = choose_masks(len(answer), options.mc_num, estimator, seed)
        for mask, weight in zip(masks.tolist(), weights.tolist(), strict=True):
            work.append(_Masked(number, [*prompt, *answer, *suffix], len(prompt), mask, weight))

    counts = Counts()
    values = [0.0] * len(pairs)
    for batch in _batches(work, batch_size):
        for canvas, logits in zip(batch, _logits(model, batch, counts), strict=True):
            answer = pairs[canvas.pair][1]
            tokens = [token for token, masked in zip(answer, canvas.mask, strict=True) if masked]
            chosen = logits.log_softmax(dim=1).gather(1, torch.tensor(tokens, device=logits.device)[:, None])
            values[canvas.pair] += canvas.weight * float(chosen.double().sum())
    forwards = [sum(canvas.pair == number for canvas in work) for number in range(len(pairs))]
    greedy = _greedy(model, pairs, batch_size, counts, forwards)
    return [Likelihood(*scored) for scored in zip(values, greedy, forwards, strict=True)], counts


def choose_masks(length: int, mc_num: int, estimator: str, seed: int) -> tuple[Tensor, Tensor]:
    """The masks to run and their weights.

    Returns:
        BoolTensor ``[N, length]``, distinct and not empty, and float64 ``[N]``.
    """
    if length <= mc_num.bit_length() and 2**length - 1 <= mc_num:
        return all_masks(length)
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same masks on every device
    draw = draw_rates if estimator == "dream" else draw_numbers
    drawn, weights = draw(length, mc_num, generator)
    masks, place = drawn.unique(dim=0, return_inverse=True)
    summed = torch.zeros(len(masks), dtype=torch.float64).index_add_(0, place, weights)
    some = masks.any(dim=1)
    return masks[some], summed[some]


def all_masks(length: int) -> tuple[Tensor, Tensor]:
    """Every mask but the empty one, with its weight in the expectation: ``1 / (l C(L, l))``."""
    numbers = torch.arange(1, 2**length)
    masks = (numbers[:, None] >> torch.arange(length)) % 2 == 1
    weights = [1 / (size * comb(length, size)) for size in masks.sum(dim=1).tolist()]
    return masks, torch.tensor(weights, dtype=torch.float64)


def draw_numbers(length: int, mc_num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """LLaDA's draws: ``l`` tokens without replacement; BoolTensor ``[mc_num, L]`` and float64 ``[mc_num]``."""
    start = torch.randint(length, (1,), generator=generator)
    number = (start + torch.arange(mc_num) * length // mc_num) % length + 1
    rank = torch.rand(mc_num, length, dtype=torch.float64, generator=generator).argsort(dim=1)
    return rank < number[:, None], length / (number.double() * mc_num)


def draw_rates(length: int, mc_num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Dream's draws: each token with probability ``t``; BoolTensor ``[mc_num, L]`` and float64 ``[mc_num]``."""
    start = torch.rand(1, dtype=torch.float64, generator=generator)
    rate = (1 - _MIN_MASK_RATE) * ((start + torch.arange(mc_num) / mc_num) % 1) + _MIN_MASK_RATE
    return torch.rand(mc_num, length, dtype=torch.float64, generator=generator) < rate[:, None], 1 / (rate * mc_num)


@dataclass(frozen=True)
class _Masked:
    """A canvas to run: the ``ids`` of pair number ``pair``, with the answer, from ``start`` on, masked by ``mask``."""

    pair: int
    ids: list[int]
    start: int
    mask: list[bool]
    weight: float = 1.0


def _batches(work: list[_Masked], size: int) -> Iterator[list[_Masked]]:
    for first in range(0, len(work), size):
        yield work[first : first + size]


def _logits(model: Transformer, batch: list[_Masked], counts: Counts) -> Iterator[Tensor]:
    """Logits ``[m, V]`` of the masked positions of each canvas, from left to right; checked after the last canvas."""
    config, length = model.config, max(len(canvas.ids) for canvas in batch)
    ids = torch.full((len(batch), length), config.pad_id)
    valid = torch.zeros_like(ids, dtype=torch.bool)
    masked = valid.clone()
    for row, canvas in enumerate(batch):
        first = length - len(canvas.ids)
        start = first + canvas.start
        ids[row, first:] = torch.tensor(canvas.ids)
        valid[row, first:] = True
        masked[row, start : start + len(canvas.mask)] = torch.tensor(canvas.mask)
    ids[masked] = config.mask_id
    ids, valid, masked = (tensor.to(model.device) for tensor in (ids, valid, masked))
    step = Step(model.canvas(valid), ids, masked, masked, counts.forwards)
    # The prompt is not empty, so a row that predicts an answer's token never wraps around.
    forward = model.run(ids, logit_rows=masked.roll(-config.shift, dims=1), step=step)
    counts.add(step)
    limits = extremes(forward.logits)
    yield from forward.logits.split([sum(canvas.mask) for canvas in batch])
    require_finite(limits.tolist(), model, step, masked, Cache())


def _greedy(
    model: Transformer, pairs: Sequence[Pair], batch_size: int, counts: Counts, forwards: list[int]
) -> list[bool]:
    """Whether decoding an answer's length, the most confident token first, produces the answer.

    It is LLaDA's ``suffix_greedy_prediction``, stopped at the first difference. Adds its forwards to ``forwards``.
    """
    options, mask_id = GenerationOptions(), model.config.mask_id
    open_masks = [[True] * len(answer) for _, answer in pairs]
    running, agreed = list(range(len(pairs))), [True] * len(pairs)
    while running:
        work = [_Masked(n, [*pairs[n][0], *pairs[n][1]], len(pairs[n][0]), open_masks[n]) for n in running]
        for batch in _batches(work, batch_size):
            for canvas, logits in zip(batch, _logits(model, batch, counts), strict=True):
                tokens, confidence = propose(logits, options, mask_id)
                best = int(confidence.argmax())
                place = [n for n, masked in enumerate(canvas.mask) if masked][best]
                agreed[canvas.pair] = int(tokens[best]) == pairs[canvas.pair][1][place]
                open_masks[canvas.pair][place] = False
                forwards[canvas.pair] += 1
        running = [n for n in running if agreed[n] and any(open_masks[n])]
    return agreed
