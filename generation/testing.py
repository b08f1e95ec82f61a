"""What every cache promises, whatever it does inside, as checks that any test runner can call.

A test file of a package that has a cache of its own needs no more than::

    import pytest
    from generation.testing import checks

    @pytest.mark.parametrize("check", checks("my_cache", {"every": 2}), ids=str)
    def test_it_keeps_the_contract(check):
        check()

The checks run on tiny random models of each family, on a CPU, without files or network.
"""

from __future__ import annotations

import itertools
import math
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch

from cache_zoo import Cache, caches, make_cache
from generation.decoder import generate
from generation.finite_logits import NotFiniteError
from generation.output import GenerationOutput
from models import Transformer, load_model
from models.tiny import SMALLEST, make_tiny

GEN_LENGTH = 16
FAMILIES = tuple(SMALLEST)
BATCHES = (1, 3)
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
}
_PROMPTS = (11, 5, 8)
"""Lengths of the prompts of a batch."""


@dataclass(frozen=True)
class Check:
    """One promise, one cache and one way of decoding. Calling it raises `AssertionError` if it is not kept.

    Attributes:
        promise: which one, by the name of its function.
        cache: name of the cache.
        parameters: of its constructor.
        family: of the model.
        decoder: a key of `DECODERS`.
        batch: prompts decoded together.
    """

    promise: str
    cache: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    family: str = FAMILIES[0]
    decoder: str = "blocks"
    batch: int = 1

    def __str__(self) -> str:
        given = ",".join(f"{key}={value}" for key, value in self.parameters.items())
        named = (self.cache, given, self.family, self.decoder, f"batch {self.batch}", self.promise)
        return "-".join(word for word in named if word).replace(" ", "")

    def __call__(self) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*needs blocks", UserWarning)
            _PROMISES[self.promise](self)

    @property
    def model(self) -> Transformer:
        """The model, the same object for all checks."""
        return _model(self.family)

    @property
    def prompts(self) -> list[list[int]]:
        """Prompts of different lengths."""
        generator = torch.Generator().manual_seed(7)
        return [torch.randint(0, 256, (length,), generator=generator).tolist() for length in _PROMPTS][: self.batch]

    def new_cache(self) -> Cache:
        """A new cache."""
        return make_cache(self.cache, **self.parameters)

    def decode(self, cache: Cache | None, prompts: list[list[int]] | None = None, **extra: Any) -> GenerationOutput:
        """What ``cache`` decodes."""
        options = {"gen_length": GEN_LENGTH, **DECODERS[self.decoder], **extra}
        return generate(self.model, self.prompts if prompts is None else prompts, cache, **options)


def checks(cache: str, *variants: Mapping[str, Any]) -> list[Check]:
    """The whole contract for one cache.

    Args:
        cache: a registered name, or ``"module:Class"``.
        variants: parameters to try it with, beside its defaults; best such that 16 tokens see every branch of it.

    Raises:
        UsageError: there is no such cache, or it can't be imported.
    """
    cls: type[Cache] = caches.get(cache)
    found = [Check("names_its_source_and_reports_its_memory", cache)]
    for parameters, family, decoder, batch in itertools.product(({}, *variants), FAMILIES, DECODERS, BATCHES):
        found.append(Check("decodes_the_same_alone_and_again", cache, parameters, family, decoder, batch))
    for parameters, family, batch in itertools.product(({}, *variants), FAMILIES, BATCHES):
        found.append(Check("never_reads_fresh_memory", cache, parameters, family, batch=batch))
    if cls.exact_with is not None:
        for family, decoder in itertools.product(FAMILIES, DECODERS):
            found.append(Check("recomputing_everything_equals_no_cache", cache, cls.exact_with, family, decoder, 3))
    return found


def _decodes_the_same_alone_and_again(check: Check) -> None:
    """Traces and counters are right; a batch and a used object decode what one by one and fresh objects do."""
    cache = check.new_cache()
    out = check.decode(cache, trace=True)
    _trace_replays_to_the_tokens(out, check.model)
    _counters_equal_a_hand_count(out, check.model, check.prompts)

    again = check.decode(cache)
    _hold(torch.equal(again.tokens, out.tokens), "a second generation with one object differs from a fresh one")
    _hold(again.counts == out.counts, "a second generation with one object counts other work than a fresh one")

    for number, prompt in enumerate(check.prompts if check.batch > 1 else []):
        options = DECODERS[check.decoder]
        seed = {"seed": options["seed"] + number} if "seed" in options else {}
        alone = check.decode(check.new_cache(), [prompt], **seed)
        same = torch.equal(alone.tokens[0], out.tokens[number])
        _hold(same, f"sequence {number} of a batch differs from decoding it alone")
        _hold(alone.nfe == out.forwards[number], f"sequence {number} of a batch takes other forwards than alone")


def _trace_replays_to_the_tokens(out: GenerationOutput, model: Transformer) -> None:
    trace = out.trace or []
    _hold(len(trace) == out.nfe == out.counts.forwards, "forwards traced and counted differ")
    canvas = torch.full_like(out.tokens, model.config.mask_id)
    decided = torch.zeros_like(canvas, dtype=torch.bool)
    for entry in trace:
        _hold(not (decided & entry.committed).any(), "a position was committed twice")
        _hold(entry.committed[entry.active].any(dim=1).all(), "a forward committed nothing for a sequence")
        decided |= entry.committed
        canvas = torch.where(entry.committed, entry.canvas, canvas)
        _hold(torch.equal(canvas, entry.canvas), "a position changed that was not committed")
    _hold(torch.equal(canvas, out.tokens), "the tokens are not those that were committed")
    _hold((canvas[decided] != model.config.mask_id).all(), "[MASK] was committed")


def _counters_equal_a_hand_count(out: GenerationOutput, model: Transformer, prompts: list[list[int]]) -> None:
    trace = out.trace or []
    lengths = [len(prompt) + GEN_LENGTH for prompt in prompts]
    padding = [max(lengths) - length for length in lengths]
    rows = keys = full = 0
    for entry in trace:
        full += sum(lengths[b] for b in entry.active)
        for layer in entry.layer_rows:
            rows += sum(len(positions) for positions in layer)
            keys += sum(len(p) * lengths[b] for b, p in zip(entry.active, layer, strict=True))
            for b, positions in zip(entry.active, layer, strict=True):
                _hold(all(position >= padding[b] for position in positions), "a row of padding ran")
    counts, layers = out.counts, model.config.num_layers
    _hold(math.isclose(counts.rows, rows / layers, rel_tol=1e-12), f"{counts.rows} rows counted, {rows / layers} ran")
    _hold(counts.rows_full == full, f"{counts.rows_full} rows of full recomputation counted, not {full}")
    _hold(counts.keys == keys, f"{counts.keys} query-key pairs counted, not {keys}")
    _hold(0 < counts.compute_ratio <= 1, f"the compute ratio is {counts.compute_ratio}")
    took_part = [sum(b in entry.active for entry in trace) for b in range(len(prompts))]
    _hold(out.forwards == took_part, f"sequences took part in {took_part} forwards, counted were {out.forwards}")


def _recomputing_everything_equals_no_cache(check: Check) -> None:
    """With the parameters of ``exact_with`` it decodes what no cache decodes."""
    # a cache that needs blocks recomputes everything as long as each block takes one forward
    cls: type[Cache] = caches.get(check.cache)
    once: dict[str, Any] = {"block_length": 1, "steps": None, "num_transfer_tokens": 1} if cls.needs_blocks else {}
    expected, out = check.decode(None, **once), check.decode(check.new_cache(), **once)
    _hold(torch.equal(out.tokens, expected.tokens), f"with {dict(check.parameters)} it decodes not what no cache does")
    _hold(out.nfe == expected.nfe, f"with {dict(check.parameters)} it takes other forwards than no cache")


def _never_reads_fresh_memory(check: Check) -> None:
    """What ``torch.empty`` returns does not matter."""
    before = torch.are_deterministic_algorithms_enabled()
    try:
        expected = check.decode(check.new_cache())
        torch.use_deterministic_algorithms(True)  # fills what torch.empty returns with NaN
        _hold(torch.empty(8).isnan().all(), "torch no longer fills fresh memory, so this check shows nothing")
        clean = torch.equal(check.decode(check.new_cache()).tokens, expected.tokens)
    except NotFiniteError:  # NaN that an earlier check left in memory may reach the first of the two as well
        clean = False
    finally:
        torch.use_deterministic_algorithms(before)
    _hold(clean, "it decodes from memory that nothing was written to")


def _names_its_source_and_reports_its_memory(check: Check) -> None:
    """``paper`` is there, every parameter has a default, and what it saves comes from memory that it reports."""
    cls: type[Cache] = caches.get(check.cache)
    _hold(cls.paper, "'paper' is empty: say where the method comes from")
    counts = check.decode(check.new_cache()).counts
    _hold(counts.cache_bytes > 0 or counts.compute_ratio == 1, "it runs fewer rows than there are but holds nothing")


_PROMISES: dict[str, Callable[[Check], None]] = {
    function.__name__.lstrip("_"): function
    for function in (
        _decodes_the_same_alone_and_again,
        _never_reads_fresh_memory,
        _names_its_source_and_reports_its_memory,
        _recomputing_everything_equals_no_cache,
    )
}


def _hold(kept: Any, message: str) -> None:
    if not kept:
        raise AssertionError(message)


@lru_cache
def _model(family: str) -> Transformer:
    with tempfile.TemporaryDirectory() as folder:
        return load_model(make_tiny(folder, family, **SMALLEST[family]))
