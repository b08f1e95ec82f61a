"""The contracts that every cache and every strategy keep, as checks for any test runner.

A package with a cache needs only this test file::

    import pytest
    from generation.testing import checks

    @pytest.mark.parametrize("check", checks("my_cache", {"every": 2}), ids=str)
    def test_it_keeps_the_contract(check):
        check()

For a strategy it is `strategy_checks`. The checks run on tiny random models of each family, on a CPU, without files or
network.
"""

from __future__ import annotations

import inspect
import itertools
import math
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from cache_zoo import Cache, KVCache, Step, Suffix, caches, make_cache
from cache_zoo.cache_bytes import PeakMeter
from cache_zoo.docstrings import documented
from cache_zoo.registry import parameters_of
from generation.decoder import generate
from generation.finite_logits import NotFiniteError
from generation.output import GenerationOutput
from generation.strategies.registry import strategies
from generation.strategies.strategy import Strategy
from models import Transformer, load_model
from models.tiny import SMALLEST, make_tiny


class _NearSuffix(Suffix):
    """Three columns behind the block take part."""

    def visible(self, step: Step) -> Tensor:
        return step.canvas.columns < step.block_end + 3


GEN_LENGTH = 16
FAMILIES = tuple(SMALLEST)
DECODERS: dict[str, dict[str, Any]] = {
    "blocks": {"block_length": 4},
    "full-canvas": {"block_length": None, "num_transfer_tokens": 2},
    "steps": {"block_length": 8, "steps": 6},
    "threshold": {"block_length": 8, "threshold": 0.35},
    "factor": {"block_length": 8, "factor": 1.3},
    "sigma": {"block_length": 16, "sigma": 4.0},
    "entropy": {"block_length": 4, "alg": "entropy", "num_transfer_tokens": 2},
    "margin": {"block_length": 8, "alg": "topk_margin", "top_p": 0.9},
    "sampling": {"block_length": 4, "temperature": 0.8, "top_k": 40, "seed": 3},
    "random-order": {"block_length": 8, "alg": "random", "seed": 3, "num_transfer_tokens": 3},
    "until-eos": {"block_length": 4, "stop_until_eos": True},
    "eos-last": {"block_length": 8, "logits_eos_inf": True, "confidence_eos_eot_inf": True},
    "idle-forwards": {"block_length": 8, "steps": 12, "schedule": "dream"},
    "guided": {"block_length": 8, "cfg_scale": 0.5, "num_transfer_tokens": 2},
    "pruned": {"block_length": 4, "suffix": _NearSuffix()},
}
PROMPT_LENGTHS = (11, 5, 8)


@dataclass(frozen=True)
class Check:
    """One promise, one cache and one way of decoding. A call raises `AssertionError` if the promise is broken.

    Attributes:
        promise: name of the promise's function, without the underscore.
        cache: name of the cache.
        parameters: of its constructor.
        family: of the model.
        decoder: a key of `DECODERS`.
    """

    promise: str
    cache: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    family: str = FAMILIES[0]
    decoder: str = "blocks"

    def __str__(self) -> str:
        given = ",".join(f"{key}={value}" for key, value in self.parameters.items())
        parts = (self.cache, given, self.family, self.decoder, self.promise)
        return "-".join(part for part in parts if part).replace(" ", "")

    def __call__(self) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*needs blocks", UserWarning)
            _PROMISES[self.promise](self)

    def new_cache(self) -> Cache:
        """A new cache."""
        return make_cache(self.cache, **self.parameters)

    def decode(self, cache: Cache | None, prompts: list[list[int]] | None = None, **extra: Any) -> GenerationOutput:
        """Decode ``prompts``, by default three of different lengths, with ``cache``."""
        options = {"gen_length": GEN_LENGTH, **DECODERS[self.decoder], **extra}
        return generate(tiny_model(self.family), tiny_prompts() if prompts is None else prompts, cache, **options)


def checks(cache: str, *variants: Mapping[str, Any]) -> list[Check]:
    """The contract for one cache.

    Args:
        cache: a registered name, or ``"module:Class"``.
        variants: parameters to check besides the defaults; choose them so that 16 tokens reach every branch.

    Raises:
        UsageError: unknown cache, or its import fails.
    """
    cls: type[Cache] = caches.get(cache)
    decoders = [name for name, options in DECODERS.items() if not cls.needs_planned or options.get("alg") == "random"]
    contract = [Check("names_its_source_and_reports_its_memory", cache, decoder=decoders[0])]
    for parameters, family in itertools.product(({}, *variants), FAMILIES):
        for promise in ("never_reads_fresh_memory", "reports_the_most_it_holds"):
            contract.append(Check(promise, cache, parameters, family, decoders[0]))
        for decoder in decoders:
            contract.append(Check("decodes_the_same_alone_and_again", cache, parameters, family, decoder))
    if cls.exact_with is not None:
        for family, decoder in itertools.product(FAMILIES, decoders):
            contract.append(Check("recomputing_everything_equals_no_cache", cache, cls.exact_with, family, decoder))
    return contract


def _decodes_the_same_alone_and_again(check: Check) -> None:
    """Traces and counters are right; neither the batch nor earlier generations of a cache change what it decodes."""
    prompts, cache = tiny_prompts(), check.new_cache()  # one object for all generations

    def alone(number: int) -> GenerationOutput:
        options = DECODERS[check.decoder]
        seed = {"seed": options["seed"] + number} if "seed" in options else {}
        out = check.decode(cache, [prompts[number]], trace=True, **seed)
        _check_trace_and_counters(out, check, [prompts[number]])
        return out

    first, again = alone(0), alone(0)
    _require(torch.equal(again.tokens, first.tokens), "a second generation with one object differs from the first")
    _require(again.counts == first.counts, "a second generation with one object counts other work than the first")
    batch = check.decode(cache, trace=True)
    _check_trace_and_counters(batch, check, prompts)
    for number, single in enumerate((first, alone(1), alone(2))):
        same = torch.equal(single.tokens[0], batch.tokens[number])
        _require(same, f"sequence {number} of a batch differs from decoding it alone")
        _require(single.nfe == batch.forwards[number], f"sequence {number} of a batch takes other forwards than alone")


def _check_trace_and_counters(out: GenerationOutput, check: Check, prompts: list[list[int]]) -> None:
    _trace_replays_to_the_tokens(out, check)
    _counters_equal_a_hand_count(out, check, prompts)


def _trace_replays_to_the_tokens(out: GenerationOutput, check: Check) -> None:
    trace, mask_id = out.trace or [], tiny_model(check.family).config.mask_id
    may_idle = DECODERS[check.decoder].get("schedule", "even") != "even"
    _require(len(trace) == out.nfe == out.counts.forwards, "forwards traced and counted differ")
    canvas = torch.full_like(out.tokens, mask_id)
    committed = torch.zeros_like(canvas, dtype=torch.bool)
    for entry in trace:
        _require(not (committed & entry.committed).any(), "a position was committed twice")
        _require(may_idle or entry.committed[entry.active].any(dim=1).all(), "a forward committed nothing")
        committed |= entry.committed
        canvas = torch.where(entry.committed, entry.canvas, canvas)
        _require(torch.equal(canvas, entry.canvas), "a position changed that was not committed")
    _require(torch.equal(canvas, out.tokens), "the tokens are not those that were committed")
    _require((canvas[committed] != mask_id).all(), "[MASK] was committed")


def _counters_equal_a_hand_count(out: GenerationOutput, check: Check, prompts: list[list[int]]) -> None:
    trace, layers = out.trace or [], tiny_model(check.family).config.num_layers
    contexts = 2 if DECODERS[check.decoder].get("cfg_scale") else 1
    lengths = [len(prompt) + GEN_LENGTH for prompt in prompts]
    padding = [max(lengths) - length for length in lengths]
    cls = caches.get(check.cache)
    # a cache with an attention of its own may attend fewer pairs, and compute fewer feed-forward outputs than queries
    plain = getattr(cls, "attention", None) in (Cache.attention, KVCache.attention)
    full = 0
    for entry in trace:
        full += contexts * sum(lengths[b] for b in entry.active)
        work = entry.work
        for layer, rows in enumerate(entry.layer_rows):
            ran = sum(map(len, rows))
            pairs = sum(len(p) * seen for p, seen in zip(rows, entry.visible, strict=True))
            if contexts == 2:  # the trace has the rows of one, and those of the other may be others
                ran, pairs = work.queries[layer], work.queries[layer] * max(entry.visible)
            _require(work.feed_forward[layer] <= ran, "a feed-forward output was computed of a row without a query")
            _require(work.pairs[layer] <= pairs + 1e-6, f"{work.pairs[layer]} query-key pairs counted, {pairs} exist")
            if plain:
                _require(work.feed_forward[layer] == work.queries[layer] == ran, f"{ran} rows ran, counted were others")
                _require(
                    contexts == 2 or work.pairs[layer] == pairs,
                    f"{work.pairs[layer]} query-key pairs counted, not {pairs}",
                )
            for b, positions in zip(entry.active, rows, strict=True):
                _require(all(position >= padding[b] for position in positions), "a row of padding ran")
    counts = out.counts
    rows_run = sum(sum(entry.work.feed_forward) for entry in trace) / layers
    _require(math.isclose(counts.rows, rows_run, rel_tol=1e-12), f"{counts.rows} rows counted, {rows_run} ran")
    attended = sum(sum(entry.work.pairs) for entry in trace)
    _require(math.isclose(counts.keys, attended, rel_tol=1e-12), f"{counts.keys} pairs counted, not {attended}")
    _require(counts.rows_full == full, f"{counts.rows_full} rows of full recomputation counted, not {full}")
    _require(0 < counts.compute_ratio <= 1, f"the compute ratio is {counts.compute_ratio}")
    took_part = [sum(b in entry.active for entry in trace) for b in range(len(prompts))]
    _require(out.forwards == took_part, f"sequences took part in {took_part} forwards, counted were {out.forwards}")


def _recomputing_everything_equals_no_cache(check: Check) -> None:
    """With the parameters of ``exact_with`` it decodes what no cache decodes."""
    cls: type[Cache] = caches.get(check.cache)
    # A cache that needs blocks recomputes everything as long as each block takes one forward.
    one = {"block_length": 1, "num_transfer_tokens": 1, "steps": None, "schedule": "even"}
    options: dict[str, Any] = one if cls.needs_blocks else {}
    expected = _without_cache(check.family, check.decoder, **options)
    out = check.decode(check.new_cache(), **options)
    given = dict(check.parameters)
    _require(torch.equal(out.tokens, expected.tokens), f"with {given} it decodes something else than no cache")
    _require(out.nfe == expected.nfe, f"with {given} it takes other forwards than no cache")


@lru_cache
def _without_cache(family: str, decoder: str, **options: Any) -> GenerationOutput:
    return Check("", "none", {}, family, decoder).decode(None, **options)


def _never_reads_fresh_memory(check: Check) -> None:
    """The content of what ``torch.empty`` returns does not matter, with padding and without."""
    before = torch.are_deterministic_algorithms_enabled()
    for prompts in (tiny_prompts(), tiny_prompts()[:1]):
        try:
            expected = check.decode(check.new_cache(), prompts)
            torch.use_deterministic_algorithms(True)  # fills what torch.empty returns with NaN
            _require(torch.empty(8).isnan().all(), "torch no longer fills fresh memory, so this check shows nothing")
            clean = torch.equal(check.decode(check.new_cache(), prompts).tokens, expected.tokens)
        except NotFiniteError:  # NaN that an earlier check left in memory may reach the first of the two as well
            clean = False
        finally:
            torch.use_deterministic_algorithms(before)
        _require(clean, "it decodes from memory that nothing was written to")


def _names_its_source_and_reports_its_memory(check: Check) -> None:
    """``paper`` is set, every parameter has a default, and a cache that saves work reports memory."""
    cls: type[Cache] = caches.get(check.cache)
    _require(cls.paper, "'paper' is empty: name the source of the method")
    counts = check.decode(check.new_cache()).counts
    _require(counts.cache_bytes > 0 or counts.compute_ratio == 1, "it skips rows but reports no memory")


def _reports_the_most_it_holds(check: Check) -> None:
    """``cache_bytes`` is the most that the cache holds between any two calls of its hooks."""
    reported = check.decode(check.new_cache()).counts.cache_bytes
    meter = PeakMeter(tiny_model(check.family))
    check.decode(_read_after_every_hook(check.new_cache(), meter))
    _require(
        meter.peak == reported,
        f"it holds {meter.peak} bytes at most and reports {reported}: free early what a layer leaves behind, or set "
        "'peaks_inside', which measures after the attention of every layer of every forward",
    )


def _read_after_every_hook(cache: Cache, meter: PeakMeter) -> Cache:
    """``cache``, whose bytes ``meter`` reads after each call that the decoder and the model make."""
    cls = type(cache)

    def watched(hook: str) -> Callable[..., Any]:
        def call(self: Cache, *arguments: Any) -> Any:
            result = getattr(cls, hook)(self, *arguments)
            meter.read(self, next(value for value in arguments if isinstance(value, Step)))
            return result

        return call

    hooks = ("rows", "confidence_positions", "enter", "attention", "feed_forward", "end_step")
    cache.__class__ = type(cls.__name__, (cls,), {hook: watched(hook) for hook in hooks})
    return cache


@dataclass(frozen=True)
class StrategyCheck:
    """The contract of strategies, for one way of decoding. A call raises `AssertionError` if it is broken.

    A batch decodes what its sequences decode alone and again, whether or not all rows run; nothing stays masked unless
    the text ended; and the class names its source and explains its parameters.

    Attributes:
        strategy: name of the strategy.
        parameters: of its own.
        family: of the model.
        decoder: a key of `DECODERS`.
    """

    strategy: str
    parameters: Mapping[str, Any]
    family: str
    decoder: str

    def __str__(self) -> str:
        given = ",".join(f"{key}={value}" for key, value in self.parameters.items())
        return "-".join(part for part in (self.strategy, given, self.family, self.decoder) if part).replace(" ", "")

    def __call__(self) -> None:
        self._explains_itself()
        for cache in (Cache(), _RegionCache()):
            self._decodes_the_same_alone_and_again(cache)

    def _explains_itself(self) -> None:
        cls: type[Strategy] = strategies.get(self.strategy)
        texts, parameters = documented(cls, "Args"), parameters_of(cls)
        _require(bool(cls.paper), "'paper' is empty: name the source of the method")
        for name in parameters.keys() - {"options"}:
            _require(parameters[name] is not inspect.Parameter.empty, f"parameter '{name}' has no default")
            _require(bool(texts.get(name)), f"parameter '{name}' is not explained in the docstring")

    def _decodes_the_same_alone_and_again(self, cache: Cache) -> None:
        prompts, ran = tiny_prompts(), "all rows" if type(cache) is Cache else "the rows of its region"
        batch, mask_id = self._decode(prompts, cache, 0), tiny_model(self.family).config.mask_id
        _require(torch.equal(batch.tokens, self._decode(prompts, cache, 0).tokens), "a second generation differs")
        for number, prompt in enumerate(prompts):
            alone, of_batch = self._decode([prompt], cache, number), f"sequence {number} of a batch that runs {ran}"
            _require(torch.equal(alone.tokens[0], batch.tokens[number]), f"{of_batch} differs from decoding it alone")
            _require(alone.nfe == batch.forwards[number], f"{of_batch} takes other forwards than alone")
        ended = DECODERS[self.decoder].get("stop_until_eos", False)
        exists = torch.arange(GEN_LENGTH) < torch.tensor(batch.lengths)[:, None]
        _require(ended or not ((batch.tokens == mask_id) & exists).any(), "positions stay masked")

    def _decode(self, prompts: list[list[int]], cache: Cache, number: int) -> GenerationOutput:
        """Decode ``prompts``, of which the first has ``number`` in the batch."""
        options = {"gen_length": GEN_LENGTH, **DECODERS[self.decoder], **self.parameters, "strategy": self.strategy}
        options["seed"] = options.get("seed", 0) + number
        return generate(tiny_model(self.family), prompts, cache, **options)


def strategy_checks(
    strategy: str, *variants: Mapping[str, Any], decoders: Sequence[str] = ("blocks", "threshold", "sampling")
) -> list[StrategyCheck]:
    """The contract for one strategy.

    Args:
        strategy: a registered name, or ``"module:Class"``.
        variants: its own parameters to check besides the defaults.
        decoders: keys of `DECODERS`, the ways of decoding that make sense with it.
    """
    found = itertools.product(({}, *variants), FAMILIES, decoders)
    return [StrategyCheck(strategy, parameters, family, decoder) for parameters, family, decoder in found]


class _RegionCache(KVCache):
    """After the first forward only the rows that predict a region run."""

    def rows(self, step: Step) -> Tensor | None:
        return None if step.index == 0 else step.block.roll(-step.canvas.shift, dims=1)


_PROMISES: dict[str, Callable[[Check], None]] = {
    function.__name__.lstrip("_"): function
    for function in (
        _decodes_the_same_alone_and_again,
        _never_reads_fresh_memory,
        _names_its_source_and_reports_its_memory,
        _reports_the_most_it_holds,
        _recomputing_everything_equals_no_cache,
    )
}


def _require(condition: Any, message: str) -> None:
    if not condition:
        raise AssertionError(message)


@lru_cache
def tiny_model(family: str) -> Transformer:
    """A tiny random model."""
    with tempfile.TemporaryDirectory() as folder:
        return load_model(make_tiny(folder, family, **SMALLEST[family]))


def tiny_prompts() -> list[list[int]]:
    """Three prompts of different lengths."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(0, 256, (length,), generator=generator).tolist() for length in PROMPT_LENGTHS]
