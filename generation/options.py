"""Decoding options: what they mean, their defaults and which of them go together."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from types import NoneType
from typing import Any, get_args, get_type_hints

from cache_zoo import Cache, UsageError
from cache_zoo.errors import require, require_choice, require_type, shown

ALGORITHMS = ("maskgit_plus", "entropy", "topk_margin", "random")
MAX_TOKENS = 131_072
"""Tokens of the longest canvas: no supported model has a longer context."""
MAX_SEED = 2**32 - 1
MAX_TEMPERATURE, MAX_SIGMA, _MIN_SCALE = 1_000, 100_000, 0.001
"""Beyond these a float32 soft-max or density is flat or not finite."""
_MAX_VOCABULARY = 10_000_000


@dataclass(frozen=True)
class GenerationOptions:
    """How a canvas is decoded. Checked on construction.

    Attributes:
        strategy: name of a decoding strategy in `generation.strategies.registry`.
        gen_length: tokens to generate.
        block_length: width of the semi-autoregressive blocks; divides ``gen_length``. None, or equal to
            ``gen_length``, decodes the whole canvas at once.
        num_transfer_tokens: tokens committed per forward.
        steps: instead of ``num_transfer_tokens``: forwards over all blocks, distributed as in LLaDA (each block gets
            ``steps / blocks``, and a remainder goes to its first forwards).
        threshold: commit every token of at least this confidence, and at least ``num_transfer_tokens`` (or the share
            of ``steps``) of them (Fast-dLLM, arXiv 2505.22618, section 3.3).
        factor: commit the largest ``n`` with ``(n + 1)(1 - c_n) < factor``, where ``c_n`` is the n-th highest
            confidence, and at least as many as above (Fast-dLLM, theorem 1).
        sigma: standard deviation in positions of the certainty prior, which multiplies confidences by the density of
            committed text around them (d2Cache, arXiv 2509.23094, section 4.1); None or 0: no prior. With
            ``alg=entropy``, whose confidences are negative, it reverses: positions near committed text come last.
        alg: confidence of a token: its probability (``maskgit_plus``), negative entropy (``entropy``), lead over the
            second (``topk_margin``), or a random order (``random``).
        temperature: 0 takes the likeliest token; otherwise one is drawn, and its tempered probability is its
            confidence.
        top_p: keep the likeliest tokens of this mass. As in Dream, it shapes confidences at temperature 0 too.
        top_k: keep this many of the likeliest tokens.
        stop_until_eos: a sequence is finished once everything before its first end-of-sequence token is committed;
            positions behind it may stay masked.
        logits_eos_inf: never propose the end-of-sequence token and give it no share of the probability (LLaDA's
            ``generate.py``): the canvas is filled to its end.
        confidence_eos_eot_inf: a position that proposes the end-of-sequence or end-of-turn token has confidence 0 and
            is committed last; neither token has a share of the probability from which other positions take their
            confidence (LLaDA's ``generate.py``). Needs ``alg=maskgit_plus``.
    """

    strategy: str = "vanilla"
    gen_length: int = 128
    block_length: int | None = 32
    num_transfer_tokens: int = 1
    steps: int | None = None
    threshold: float | None = None
    factor: float | None = None
    sigma: float | None = None
    alg: str = "maskgit_plus"
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    stop_until_eos: bool = False
    logits_eos_inf: bool = False
    confidence_eos_eot_inf: bool = False

    @classmethod
    def make(cls, /, **options: Any) -> GenerationOptions:
        """Options from keywords.

        Raises:
            UsageError: unknown key, value or combination.
        """
        known = [field.name for field in fields(cls)]
        for key in options:
            require_choice("generation option", key, known)
        return cls(**options)

    def __post_init__(self) -> None:
        self._check_types()
        self._check_ranges()
        block = self.block
        require(
            self.gen_length % block == 0,
            f"block_length {shown(block)} does not divide gen_length {self.gen_length}; the nearest that does is "
            f"{_nearest_divisor(block, self.gen_length)}",
        )
        require(
            self.num_transfer_tokens <= block,
            f"num_transfer_tokens must be at most the block_length, {block}, not {shown(self.num_transfer_tokens)}",
        )
        if self.steps is not None:
            self._check_steps(self.steps)
        require(
            self.threshold is None or self.factor is None,
            f"threshold ({self.threshold}) and factor ({self.factor}) are two rules for the same choice; give one",
        )
        require_choice("alg", self.alg, ALGORITHMS)
        if self.alg == "entropy":
            require(
                self.threshold is None or self.threshold <= 0,
                f"threshold {self.threshold} can never be reached with alg=entropy, whose confidences are at most 0",
            )
            require(
                self.factor is None,
                "factor needs confidences that are probabilities; alg=entropy has none, try alg=maskgit_plus",
            )
        else:
            require(
                self.threshold is None or self.threshold >= 0, f"threshold must not be negative, not {self.threshold}"
            )
        require(
            not self.confidence_eos_eot_inf or self.alg == "maskgit_plus",
            f"confidence_eos_eot_inf changes the confidence of alg=maskgit_plus; alg={self.alg} has another one",
        )

    @property
    def block(self) -> int:
        """Effective block length: ``gen_length`` if none was given."""
        return self.gen_length if self.block_length is None else self.block_length

    @property
    def random(self) -> bool:
        """Whether decoding draws random numbers."""
        return self.temperature > 0 or self.alg == "random"

    def _check_types(self) -> None:
        for key, hint in get_type_hints(type(self)).items():
            kinds, value = get_args(hint) or (hint,), getattr(self, key)
            require_type(key, value, kinds[0], NoneType in kinds)
            require(not isinstance(value, float) or math.isfinite(value), f"{key} must be a finite number, not {value}")

    def _check_ranges(self) -> None:
        between("gen_length", self.gen_length, 1, MAX_TOKENS)
        require(self.block >= 1, f"block_length must be at least 1, not {shown(self.block)}")
        least = self.num_transfer_tokens
        require(least >= 1, f"num_transfer_tokens must be at least 1, not {shown(least)}")
        require(self.factor is None or self.factor > 0, f"factor must be above 0, not {self.factor}")
        for key, most in (("sigma", MAX_SIGMA), ("temperature", MAX_TEMPERATURE)):
            value = getattr(self, key)
            require(value is None or value >= 0, f"{key} must not be negative, not {value}")
            if value != 0:
                between(key, value, _MIN_SCALE, most)
        require(self.top_p is None or 0 < self.top_p <= 1, f"top_p must be above 0 and at most 1, not {self.top_p}")
        between("top_k", self.top_k, 1, _MAX_VOCABULARY)

    def _check_steps(self, steps: int) -> None:
        require(
            self.num_transfer_tokens == 1,
            f"steps ({steps}) and num_transfer_tokens ({self.num_transfer_tokens}) are two schedules; give one",
        )
        blocks = self.gen_length // self.block
        require(
            blocks <= steps <= self.gen_length,
            f"steps must lie between the number of blocks ({blocks}) and gen_length ({self.gen_length}), "
            f"not {shown(steps)}",
        )
        require(
            steps % blocks == 0,
            f"steps {steps} is not divisible by the {blocks} blocks; the nearest multiple is "
            f"{max(1, round(steps / blocks)) * blocks}",
        )


def require_reachable(options: GenerationOptions) -> None:
    """Raise `UsageError` if no confidence can reach ``threshold``, such as 90 for 0.9."""
    require(
        options.threshold is None or options.threshold <= 1,
        f"threshold must be at most 1, not {options.threshold}: no confidence is higher; null turns it off",
    )


def incompatibility(cache: Cache, options: GenerationOptions) -> str | None:
    """Why ``cache`` can save nothing with ``options``, or None. Decoding stays correct."""
    if cache.needs_blocks and options.block >= options.gen_length:
        smaller = _nearest_divisor(32, options.gen_length, options.gen_length - 1)
        return (
            f"{type(cache).__name__} needs blocks: block_length {options.block} is the whole gen_length "
            f"{options.gen_length}; give a smaller block_length, such as {smaller}"
        )
    return None


def between(key: str, value: float | None, least: float, most: float) -> None:
    """Raise `UsageError` unless ``value`` is None or in the range."""
    if value is None or least <= value <= most:
        return
    bound = f"at least {least:,}" if value < least else f"at most {most:,}"
    raise UsageError(f"{key} must be {bound}, not {shown(value)}; it may be {least:,} to {most:,}")


def _nearest_divisor(value: int, of: int, largest: int | None = None) -> int:
    divisors = [d for d in range(1, (largest or of) + 1) if of % d == 0]
    return min(divisors, key=lambda d: (abs(d - value), d), default=1)
