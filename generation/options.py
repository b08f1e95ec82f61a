"""Decoding options: what they mean, their defaults and which of them go together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, ClassVar, get_args, get_type_hints

from cache_zoo import Cache, UsageError
from cache_zoo.errors import require, require_choice, require_type, shown

ALGORITHMS = ("maskgit_plus", "entropy", "topk_margin", "random", "origin", "ar")
UNRANKED = ("random", "origin", "ar")
"""Algorithms whose order does not depend on confidences."""
_DRAWN = ("random", "origin")
RULES = ("threshold", "factor", "frechet", "gamma")
"""Options by which the distributions say how many tokens a forward commits; one of them at most."""
SCHEDULES = ("even", "dream", "dream_canvas")
FIRST_FORWARDS = ("decode", "first_token")
EOS_RULES = ("block", "drop", "cut", "fill")
FACTOR_RULES = ("exact", "with_last", "without_last")
MAX_TOKENS = 131_072
"""Tokens of the longest canvas: no supported model has a longer context."""
MAX_SEED = 2**32 - 1
MAX_TEMPERATURE, MAX_SIGMA, _MIN_SCALE = 1_000, 100_000, 0.001
"""Beyond these a float32 soft-max or density is flat or not finite."""
_MAX_GUIDANCE = 1_000
_MAX_VOCABULARY = 10_000_000


@dataclass(frozen=True)
class GenerationOptions:
    """How a canvas is decoded. Checked on construction.

    Attributes:
        strategy: name of a decoding strategy in `generation.strategies.registry`, or ``"module:Class"``.
        gen_length: tokens to generate.
        block_length: width of the semi-autoregressive blocks; divides ``gen_length``, unless the strategy chooses its
            blocks. None, or equal to ``gen_length``, decodes the whole canvas at once.
        num_transfer_tokens: tokens committed per forward.
        steps: instead of ``num_transfer_tokens``: forwards over all blocks, each block gets ``steps / blocks``.
        schedule: how ``steps`` share the tokens. ``even``: as in LLaDA, a remainder goes to the first forwards of a
            block. ``dream``: in each block as in Dream (arXiv 2508.15487), a share of the masks left that grows as
            the time runs from 1 to ``eps``, rounded down, and the rest in the last forward; a forward may commit none.
            ``dream_canvas``: the same over the whole canvas, at most the block (FlashDLM, arXiv 2505.21467).
        eps: last time of Dream's schedules, between 0 and 1.
        threshold: commit every token of at least this confidence, and at least ``num_transfer_tokens`` (or the share
            of ``steps``) of them, never none (Fast-dLLM, arXiv 2505.22618, section 3.3).
        alpha: lower ``threshold`` to ``threshold * (1 - alpha * (1 - r))``, where ``r`` is the share of masks among the
            rows run from the block on (Streaming-dLLM, arXiv 2601.17917); None or 0: not at all.
        factor: commit the largest ``n`` with ``(n + 1)(1 - c_n) < factor``, where ``c_n`` is the n-th highest
            confidence, and at least as many as above (Fast-dLLM, theorem 1).
        frechet: commit the longest run of the most confident tokens with ``(c_1 + ... + c_n - (n - 1)) - (1 - c_n) >
            frechet``, the Frechet bound of their joint probability less the doubt in the last (Fast-dLLM++, arXiv
            2606.02955), and at least as many as above. 1 or more: no others; a low number: all.
        gamma: commit the most confident tokens while the sum of their entropies less the highest of them is at most
            this, in nats (EB-Sampler, arXiv 2505.24857), and at least as many as above.
        factor_rule: how ``factor`` treats the last candidate of a block. ``exact``: as in the theorem. ``with_last``:
            it passes if all others do (released Fast-dLLM). ``without_last``: it never passes (d2Cache's code).
        first_forward: what the first forward of a block commits: ``decode`` as any other, ``first_token`` the block's
            first token whatever its confidence (Fast-dLLM, DPad and Sparse-dLLM on Dream).
        sigma: standard deviation in positions of the certainty prior, which multiplies confidences by the density of
            committed text around them (d2Cache, arXiv 2509.23094, section 4.1); None or 0: no prior. With
            ``alg=entropy``, whose confidences are negative, it reverses: positions near committed text come last.
        alg: confidence of a token: its probability (``maskgit_plus``), negative entropy (``entropy``), lead over the
            second (``topk_margin``). ``ar`` goes from left to right. ``random`` takes a random order, drawn once per
            sequence; ``origin`` too, and each mask with the probability that Dream's schedule gives instead of a fixed
            number.
        debias: JSON file with the frequency of each token in a corpus (`generation.frequencies`): the score of a
            position is its confidence times the negative logarithm of the frequency of its token, at most
            ``debias_clip``, so frequent tokens come later (PC-Sampler, arXiv 2508.13021). None: it is the confidence.
        debias_clip: highest score.
        debias_sha256: digest that the file must have; None: any. Runs record it.
        alg_temp: draw the positions, in proportion to the exponential of confidence over ``alg_temp``, instead of
            taking the most confident ones (Dream); None or 0: take them.
        temperature: 0 takes the likeliest token; otherwise one is drawn, and its tempered probability is its
            confidence.
        top_p: keep the likeliest tokens of this mass. As in Dream, it shapes confidences at temperature 0 too.
        top_k: keep this many of the likeliest tokens.
        cfg_scale: classifier-free guidance (LLaDA, arXiv 2502.09992): logits move away from those without the prompt
            by this factor; 0: none. Every forward runs twice the rows.
        eos: what an end-of-sequence token does. ``block``: a complete block that holds one ends the text, the rest
            becomes end-of-sequence tokens. ``drop``: once one is committed, masks to its right are not decoded any more
            and become such tokens at the end (Elastic-Cache, arXiv 2510.14973). ``cut``: the same, but they stay
            [MASK], as in its released code. ``fill``: everything to its right becomes such tokens at once (FlashDLM).
            None: nothing.
        stop_until_eos: a sequence is finished once everything before its first end-of-sequence token is committed;
            positions behind it may stay masked.
        logits_eos_inf: never propose the end-of-sequence token and give it no share of the probability (LLaDA's
            ``generate.py``): the canvas is filled to its end.
        confidence_eos_eot_inf: a position that proposes the end-of-sequence or end-of-turn token has confidence 0 and
            is committed last; neither token has a share of the probability from which other positions take their
            confidence (LLaDA's ``generate.py``). Needs ``alg=maskgit_plus``.
        parameters: the strategy's own parameters; `make` and `as_keywords` have them beside the others.
    """

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "alg": ALGORITHMS,
        "schedule": SCHEDULES,
        "first_forward": FIRST_FORWARDS,
        "factor_rule": FACTOR_RULES,
        "eos": EOS_RULES,
    }
    """Values of the options that are names."""

    strategy: str = "vanilla"
    gen_length: int = 128
    block_length: int | None = 32
    num_transfer_tokens: int = 1
    steps: int | None = None
    schedule: str = "even"
    eps: float = 1e-3
    threshold: float | None = None
    alpha: float | None = None
    factor: float | None = None
    factor_rule: str = "exact"
    frechet: float | None = None
    gamma: float | None = None
    first_forward: str = "decode"
    sigma: float | None = None
    alg: str = "maskgit_plus"
    debias: str | None = None
    debias_clip: float = 10.0
    debias_sha256: str | None = None
    alg_temp: float | None = None
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    cfg_scale: float = 0.0
    eos: str | None = None
    stop_until_eos: bool = False
    logits_eos_inf: bool = False
    confidence_eos_eot_inf: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def make(cls, /, **options: Any) -> GenerationOptions:
        """Options from keywords: the attributes but ``parameters``, and the strategy's own parameters.

        Raises:
            UsageError: unknown key, value or combination.
        """
        from generation.strategies.registry import strategies  # whose strategies are made from options

        name = options.get("strategy", cls.strategy)
        require_type("strategy", name, str)
        common = [entry.name for entry in fields(cls) if entry.name != "parameters"]
        defaults = strategies.parameters(name)
        own = [key for key in defaults if key != "options"]
        for key in own:
            require(
                key not in (*common, "parameters"),
                f"strategy '{name}' has a parameter '{key}', which is the name of a generation option; rename it",
            )
        for key in options:
            require_choice("generation option", key, [*common, *own])
        given = {key: options.pop(key) for key in own if key in options}
        made = cls(**options, parameters=given)
        strategies.make(name, options=made, **given)  # it checks its own parameters
        return made

    def as_keywords(self) -> dict[str, Any]:
        """What `make` takes: all options and the strategy's own parameters, flat."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return values | dict(values.pop("parameters"))

    def __post_init__(self) -> None:
        self._check_types()
        self._check_ranges()
        block = self.block
        require(
            self.gen_length % block == 0 or (block < self.gen_length and not self._equal_blocks()),
            f"block_length {shown(block)} does not divide gen_length {self.gen_length}; the nearest that does is "
            f"{_nearest_divisor(block, self.gen_length)}",
        )
        require(
            self.num_transfer_tokens <= block,
            f"num_transfer_tokens must be at most the block_length, {block}, not {shown(self.num_transfer_tokens)}",
        )
        for key, choices in self.CHOICES.items():
            if key != "eos" or self.eos is not None:
                require_choice(key, getattr(self, key), choices)
        self._check_schedule()
        self._check_rules()

    @property
    def block(self) -> int:
        """Effective block length: ``gen_length`` if none was given."""
        return self.gen_length if self.block_length is None else self.block_length

    @property
    def random(self) -> bool:
        """Whether decoding draws random numbers."""
        return self.temperature > 0 or self.alg in _DRAWN or bool(self.alg_temp)

    @property
    def scheduled_steps(self) -> int | None:
        """Forwards that the schedule gives the whole generation; None: confidences decide how many there are."""
        if not self.counted:
            return None
        blocks, rest = divmod(self.gen_length, self.block)
        of_block, of_rest = (-(-length // self.num_transfer_tokens) for length in (self.block, rest))
        return self.steps or blocks * of_block + of_rest

    @property
    def counted(self) -> bool:
        """Whether the number of tokens that a forward commits does not depend on confidences."""
        return self.rule is None

    @property
    def rule(self) -> str | None:
        """The one of `RULES` that is given."""
        return next((name for name in RULES if getattr(self, name) is not None), None)

    def _equal_blocks(self) -> bool:
        from generation.strategies.registry import strategies  # whose strategies are made from options

        strategy: Any = strategies.get(self.strategy)
        return bool(strategy.equal_blocks)

    def _check_types(self) -> None:
        for key, hint in get_type_hints(type(self)).items():
            if key == "parameters":
                continue  # the strategy checks them
            kinds, value = get_args(hint) or (hint,), getattr(self, key)
            require_type(key, value, kinds[0], NoneType in kinds)
            require(not isinstance(value, float) or math.isfinite(value), f"{key} must be a finite number, not {value}")

    def _check_ranges(self) -> None:
        between("gen_length", self.gen_length, 1, MAX_TOKENS)
        require(self.block >= 1, f"block_length must be at least 1, not {shown(self.block)}")
        least = self.num_transfer_tokens
        require(least >= 1, f"num_transfer_tokens must be at least 1, not {shown(least)}")
        require(self.factor is None or self.factor > 0, f"factor must be above 0, not {self.factor}")
        require(self.debias_clip > 0, f"debias_clip must be above 0, not {self.debias_clip}")
        require(self.gamma is None or self.gamma >= 0, f"gamma must not be negative, not {self.gamma}")
        require(0 < self.eps < 1, f"eps must be between 0 and 1, not {self.eps}")
        require(self.alpha is None or 0 <= self.alpha <= 1, f"alpha must be 0 to 1, not {self.alpha}")
        between("cfg_scale", self.cfg_scale, 0, _MAX_GUIDANCE)
        for key, most in (("sigma", MAX_SIGMA), ("temperature", MAX_TEMPERATURE), ("alg_temp", MAX_TEMPERATURE)):
            value = getattr(self, key)
            require(value is None or value >= 0, f"{key} must not be negative, not {value}")
            if value != 0:
                between(key, value, _MIN_SCALE, most)
        require(self.top_p is None or 0 < self.top_p <= 1, f"top_p must be above 0 and at most 1, not {self.top_p}")
        between("top_k", self.top_k, 1, _MAX_VOCABULARY)

    def _check_schedule(self) -> None:
        steps, blocks = self.steps, self.gen_length // self.block
        if steps is None:
            require(self.alg != "origin", "alg=origin draws by the times of Dream's schedule; give schedule=dream")
            require(self.schedule == "even", f"schedule={self.schedule} shares out the tokens of steps; give steps")
            return
        require(
            self.num_transfer_tokens == 1,
            f"steps ({steps}) and num_transfer_tokens ({self.num_transfer_tokens}) are two schedules; give one",
        )
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
        require(
            self.alg != "origin" or self.schedule == "dream",
            f"alg=origin draws by the times of Dream's schedule; give schedule=dream, not {self.schedule}",
        )

    def _check_rules(self) -> None:
        """Raise `UsageError` for rules that contradict each other or could have no effect."""
        given = [f"{name} ({getattr(self, name)})" for name in RULES if getattr(self, name) is not None]
        require(len(given) <= 1, f"{' and '.join(given[:2])} are two rules for the same choice; give one")
        require(not self.alpha or self.threshold is not None, f"alpha ({self.alpha}) lowers a threshold; give one")
        require(
            not self.alpha or self.alg != "entropy",
            f"alpha ({self.alpha}) lowers thresholds of probabilities; alg=entropy has none, try alg=maskgit_plus",
        )
        if not self.counted and (self.alg in UNRANKED or self.alg_temp):
            other = f"alg={self.alg}" if self.alg in UNRANKED else f"alg_temp={self.alg_temp}"
            does = "takes the first" if self.alg == "ar" else "draws which to take"
            raise UsageError(f"{self.rule} takes the most confident tokens and {other} {does}; give one")
        require(
            not self.alg_temp or self.alg not in UNRANKED,
            f"alg_temp={self.alg_temp} draws by confidences; alg={self.alg} has none, try alg=entropy",
        )
        require(
            self.debias is None or self.alg == "maskgit_plus",
            f"debias weighs the probability of a token; alg={self.alg} ranks by something else",
        )
        require(
            self.debias is None or self.rule in (None, "gamma"),
            f"debias changes confidences, and {self.rule} needs probabilities; give one",
        )
        require(
            self.debias_sha256 is None or self.debias is not None,
            "debias_sha256 is the digest of a file; give the file as debias",
        )
        unranked = self.alg in ("origin", "ar")
        require(not self.sigma or not unranked, f"sigma={self.sigma} ranks tokens; alg={self.alg} does not")
        threshold = self.threshold or 0
        if self.alg == "entropy":
            require(
                threshold <= 0,
                f"threshold {self.threshold} can never be reached with alg=entropy, whose confidences are at most 0",
            )
            require(
                self.rule not in ("factor", "frechet"),
                f"{self.rule} needs confidences that are probabilities; alg=entropy has none, try alg=maskgit_plus",
            )
        else:
            require(threshold >= 0, f"threshold must not be negative, not {self.threshold}")
        require(
            not self.confidence_eos_eot_inf or self.alg == "maskgit_plus",
            f"confidence_eos_eot_inf changes the confidence of alg=maskgit_plus; alg={self.alg} has another one",
        )
        require(
            self.eos is None or not self.stop_until_eos,
            f"eos={self.eos} and stop_until_eos are two rules for the end of the text; give one",
        )


def require_reachable(options: GenerationOptions) -> None:
    """Raise `UsageError` if no confidence can reach ``threshold``, such as 90 for 0.9."""
    require(
        options.threshold is None or options.threshold <= 1,
        f"threshold must be at most 1, not {options.threshold}: no confidence is higher; null turns it off",
    )


def incompatibility(cache: Cache, options: GenerationOptions) -> str | None:
    """Why ``cache`` can save nothing with ``options``, or None. Decoding stays correct."""
    from generation.strategies.registry import make_strategy  # which makes strategies from options

    if cache.needs_blocks and options.block >= options.gen_length and not make_strategy(options).makes_blocks:
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
