"""What every cache promises, whatever it does inside. A registered cache, also one of a plug-in, joins by its name."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from cache_zoo import caches, list_caches, make_cache
from generation import GenerationOutput, generate
from models import Transformer

CACHES = list_caches()
# Settings far from the defaults, so that small canvases see every branch of the built-in caches.
VARIANTS: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in CACHES] + [
    ("prefix", {"use_dual": True}),
    ("dllm", {"kp": 5, "kr": 3, "rou": 0.5}),
    ("dllm", {"kp": 3, "kr": 50, "rou": 0.0}),
    ("d2cache", {"rollout_p": 0.5, "current_k": 3, "sigma": 3.0, "inflate_w": 0}),
    ("d2cache", {"rollout_p": 0.0, "current_k": 1, "confidence": "first-step"}),
]
FAMILIES = ("llada", "dream")
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
GEN_LENGTH = 16

pytestmark = pytest.mark.filterwarnings("ignore:.*needs blocks:UserWarning")


def decode(model: Transformer, prompts: list[list[int]], cache: Any, decoder: str, **extra: Any) -> GenerationOutput:
    return generate(model, prompts, cache, gen_length=GEN_LENGTH, **{**DECODERS[decoder], **extra})


@pytest.mark.parametrize(
    ("variant", "family", "decoder", "batch"), list(itertools.product(VARIANTS, FAMILIES, DECODERS, BATCHES)), ids=str
)
def test_cache_keeps_its_contract(
    variant: tuple[str, dict[str, Any]],
    family: str,
    decoder: str,
    batch: int,
    tiny_models: dict[str, Transformer],
    prompts: list[list[int]],
) -> None:
    model, chosen = tiny_models[family], prompts[:batch]
    name, parameters = variant
    cache = make_cache(name, **parameters)
    out = decode(model, chosen, cache, decoder, trace=True)

    _trace_replays_to_the_tokens(out, model)
    _counters_equal_a_hand_count(out, model, chosen)

    again = decode(model, chosen, cache, decoder)
    assert torch.equal(again.tokens, out.tokens), "a second generation with one object differs from a fresh one"
    assert again.counts == out.counts

    for number, prompt in enumerate(chosen if batch > 1 else []):
        seed = {"seed": DECODERS[decoder]["seed"] + number} if "seed" in DECODERS[decoder] else {}
        alone = decode(model, [prompt], make_cache(name, **parameters), decoder, **seed)
        assert torch.equal(alone.tokens[0], out.tokens[number]), f"sequence {number} differs from decoding it alone"
        assert alone.nfe == out.forwards[number]


def _trace_replays_to_the_tokens(out: GenerationOutput, model: Transformer) -> None:
    assert out.trace is not None
    assert len(out.trace) == out.nfe == out.counts.forwards
    canvas = torch.full_like(out.tokens, model.config.mask_id)
    decided = torch.zeros_like(canvas, dtype=torch.bool)
    for entry in out.trace:
        assert not (decided & entry.committed).any(), "a position was committed twice"
        assert entry.committed[entry.active].any(dim=1).all(), "a forward committed nothing for a sequence"
        decided |= entry.committed
        canvas = torch.where(entry.committed, entry.canvas, canvas)
        assert torch.equal(canvas, entry.canvas)
    assert torch.equal(canvas, out.tokens)
    assert (canvas[decided] != model.config.mask_id).all()


def _counters_equal_a_hand_count(out: GenerationOutput, model: Transformer, prompts: list[list[int]]) -> None:
    assert out.trace is not None
    lengths = [len(prompt) + GEN_LENGTH for prompt in prompts]
    padding = [max(lengths) - length for length in lengths]
    rows = keys = full = 0
    for entry in out.trace:
        full += sum(lengths[b] for b in entry.active)
        for layer in entry.layer_rows:
            rows += sum(len(positions) for positions in layer)
            keys += sum(len(p) * lengths[b] for b, p in zip(entry.active, layer, strict=True))
            for b, positions in zip(entry.active, layer, strict=True):
                assert all(position >= padding[b] for position in positions), "a row of padding ran"
    assert out.counts.rows == pytest.approx(rows / model.config.num_layers, rel=1e-12)
    assert out.counts.rows_full == full
    assert out.counts.keys == keys
    assert 0 < out.counts.compute_ratio <= 1
    assert out.forwards == [sum(b in entry.active for entry in out.trace) for b in range(len(prompts))]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", CACHES)
def test_recomputing_everything_equals_no_cache(
    name: str, family: str, decoder: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    cls = caches.get(name)
    if cls.exact_with is None:
        pytest.skip(f"{name} has no setting that recomputes everything")
    # a cache that needs blocks recomputes everything as long as each block takes one forward
    once = {"block_length": 1, "steps": None, "num_transfer_tokens": 1} if cls.needs_blocks else {}
    expected = decode(tiny_models[family], prompts, None, decoder, **once)
    out = decode(tiny_models[family], prompts, make_cache(name, **cls.exact_with), decoder, **once)
    assert torch.equal(out.tokens, expected.tokens)
    assert out.nfe == expected.nfe


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", CACHES)
def test_fresh_memory_is_never_read(
    name: str, family: str, batch: int, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    expected = decode(tiny_models[family], prompts[:batch], make_cache(name), "blocks")
    torch.use_deterministic_algorithms(True)  # fills what torch.empty returns with NaN
    try:
        assert torch.empty(8).isnan().all()
        out = decode(tiny_models[family], prompts[:batch], make_cache(name), "blocks")
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(out.tokens, expected.tokens)


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_names_its_source_and_reports_its_memory(
    name: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    assert caches.get(name).paper, "say where the method comes from"
    held = decode(tiny_models["llada"], prompts, make_cache(name), "blocks").counts.cache_bytes
    assert (held == 0) == (name == "none")
