"""A logit that is not a number ends a generation, and the error says where it comes from."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from cache_zoo import KVCache, Step
from cache_zoo.blocks import AttentionBlock
from generation import NotFiniteError, generate, log_likelihoods, stream
from generation.batch import Batch
from generation.demo import main
from generation.strategies.vanilla import Vanilla
from models import Transformer, load_model

PROMPTS = [[1, 2, 3, 4, 5], [6, 7, 8]]
OPTIONS: dict[str, Any] = {"gen_length": 8, "block_length": 4}
RUNS: dict[str, Callable[[Transformer], object]] = {
    "generate": lambda model: generate(model, PROMPTS, **OPTIONS),
    "several": lambda model: generate(model, PROMPTS, threshold=0.1, temperature=1.0, seed=1, **OPTIONS),
    "entropy": lambda model: generate(model, PROMPTS, alg="entropy", logits_eos_inf=True, **OPTIONS),
    "margin": lambda model: generate(model, PROMPTS, alg="topk_margin", top_p=0.9, **OPTIONS),
    "random": lambda model: generate(model, PROMPTS, alg="random", seed=1, **OPTIONS),
    "d2cache": lambda model: generate(model, PROMPTS, "d2cache", sigma=2.0, **OPTIONS),
    "dllm": lambda model: generate(model, PROMPTS, "dllm", **OPTIONS),
    "stream": lambda model: list(stream(model, PROMPTS, "prefix", **OPTIONS)),
    "likelihood": lambda model: log_likelihoods(model, [([1, 2], [3, 4])], seeds=[1]),
}


@pytest.fixture
def model(tiny_folders: dict[str, Path]) -> Transformer:
    """A model of which the test may break the weights."""
    return load_model(tiny_folders["llada"])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("run", RUNS)
def test_a_weight_that_is_no_number_ends_every_kind_of_run(run: str, value: float, model: Transformer) -> None:
    model.get_parameter("layers.1.down.weight")[3, 5] = value
    with pytest.raises(NotFiniteError, match=r"of forward 1 .* in float32: .* the feed-forward sub-block of layer 1$"):
        RUNS[run](model)


@pytest.mark.parametrize(
    ("parameter", "place"),
    [
        ("embedding.weight", "the embedding"),
        ("layers.0.qkv.weight", "the attention of layer 0"),
        ("layers.2.attention_out.weight", "the attention of layer 2"),
        ("layers.2.feed_forward_norm.weight", "the feed-forward sub-block of layer 2"),
        ("norm.weight", "the head, behind layer 2"),
        ("head.weight", "the head, behind layer 2"),
    ],
)
def test_the_error_names_the_place(parameter: str, place: str, model: Transformer) -> None:
    model.get_parameter(parameter).fill_(math.nan)
    with pytest.raises(NotFiniteError, match=f"are NaN in float32: the first such values are those of {place}$"):
        generate(model, PROMPTS, **OPTIONS)


def test_an_overflow_of_float16_names_its_limit(tiny_folders: dict[str, Path]) -> None:
    model = load_model(tiny_folders["dream"], dtype="float16")
    model.get_parameter("layers.1.gate_up.weight").mul_(3000)
    pattern = r"in float16: .* sub-block of layer 1; float16 ends at 65504, bfloat16 and float32 do not"
    with pytest.raises(NotFiniteError, match=pattern):
        generate(model, PROMPTS, **OPTIONS)
    assert generate(model.float(), PROMPTS, **OPTIONS).nfe == 8


def test_an_infinite_logit_of_one_token_is_found(model: Transformer) -> None:
    """The soft-max of an infinite logit is NaN, but its greatest token is not."""
    model.get_parameter("head.weight").mul_(1e38)
    with pytest.raises(NotFiniteError, match=r"are infinite in float32: .* the head, behind layer 2"):
        generate(model, PROMPTS, **OPTIONS)


def test_logits_that_options_set_to_minus_infinity_are_fine(tiny_models: dict[str, Transformer]) -> None:
    options = {"logits_eos_inf": True, "confidence_eos_eot_inf": True, "top_p": 0.5, "top_k": 3, "temperature": 0.5}
    assert generate(tiny_models["llada"], PROMPTS, seed=1, **OPTIONS, **options).nfe == 8


def test_logits_that_a_cache_spoils_are_reported_as_its_own(model: Transformer) -> None:
    class Spoiling(KVCache):
        def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
            out = super().attention(layer, x, attn, step)
            return out * math.nan if step.index == 2 and layer == 1 else out

    with pytest.raises(NotFiniteError, match=r"of forward 3 are NaN .* they come from what Spoiling stores"):
        generate(model, PROMPTS, Spoiling(), **OPTIONS)


def test_a_stream_ends_at_the_forward_after(model: Transformer) -> None:
    forwards = stream(model, PROMPTS, **OPTIONS)
    assert next(forwards).counts.forwards == 1
    model.get_parameter("norm.weight").fill_(math.nan)
    assert next(forwards).counts.forwards == 2
    with pytest.raises(NotFiniteError, match="of forward 2"):
        next(forwards)


def test_nothing_waits_for_the_device_to_look(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check adds no read from the device: a step reads once to advance, and for the cache's rows.

    A plan reads the board, and what is counted of it, which are on the host.
    """
    reads, planning = [], []

    def on_host(function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any) -> Any:
            planning.append(True)
            try:
                return function(*given)
            finally:
                planning.clear()

        return noted

    for owner, method in ((Vanilla, "plan"), (Batch, "count_open")):
        monkeypatch.setattr(owner, method, on_host(getattr(owner, method)))
    for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
        found = getattr(Tensor, name)

        def read(*given: Any, _found: Any = found, **named: Any) -> Any:
            if not planning:
                reads.append(_found.__name__)
            return _found(*given, **named)

        monkeypatch.setattr(Tensor, name, read)
    out = generate(model, PROMPTS[:1], **OPTIONS)
    assert len(reads) <= out.nfe + 3, reads


def test_the_command_line_says_it_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any) -> Transformer:
        model = load_model(*given)
        model.get_parameter("norm.weight").fill_(math.nan)
        return model

    monkeypatch.setattr("generation.demo.load_model", broken)
    monkeypatch.setattr(
        "sys.argv", ["generation", "2 + 2 =", "generation.gen_length=32", "plain=true", "model.device=cpu"]
    )
    assert main() == 1
    error = capsys.readouterr().err
    assert error.startswith("error: the logits of forward 1 are NaN in float32")
    assert error.count("\n") == 1
