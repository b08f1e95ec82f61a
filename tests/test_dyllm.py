"""DyLLM: its schedule, its salient rows, and where it equals no cache."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from cache_zoo import Cache, Outcome, Step, UsageError, make_cache
from cache_zoo.suffixes.window import WindowSuffix
from generation import GenerationOutput, generate
from models import Transformer, load_model
from models.layers import Layer
from models.tiny import SMALLEST, make_tiny

FAMILIES = ["llada", "dream"]


def decode(model: Transformer, prompts: list[list[int]], cache: Cache | None, **options: Any) -> GenerationOutput:
    return generate(model, prompts, cache, trace=True, **{"gen_length": 16, "block_length": 4, **options})


def salient_rows(cache: Any) -> list[list[list[list[int]]]]:
    """Lets ``cache`` note its salient rows by forward, layer and sequence."""
    noted: list[list[list[list[int]]]] = []
    end_step = cache.end_step

    def noting(step: Step, outcome: Outcome) -> None:
        noted.append([rows.positions() for rows in cache.salient])
        end_step(step, outcome)

    cache.end_step = noting
    return noted


@pytest.mark.parametrize("family", FAMILIES)
def test_full_forwards_throughout_equal_no_cache(
    family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    expected = decode(tiny_models[family], prompts, None)
    out = decode(tiny_models[family], prompts, make_cache("dyllm", full_steps=expected.nfe))
    for ours, theirs in zip(out.trace or [], expected.trace or [], strict=True):
        assert torch.equal(ours.canvas, theirs.canvas)
        assert ours.layer_rows == theirs.layer_rows


@pytest.mark.parametrize(
    ("full_steps", "period", "kinds"),
    [(4, 4, "ffffrrrarrrarrra"), (2, 4, "ffaarrrarrrarrra"), (6, 4, "ffffffrarrrarrra"), (1, 3, "faarrarrarrarrar")],
)
def test_the_schedule(
    full_steps: int, period: int, kinds: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    prompt, cache = prompts[0], make_cache("dyllm", full_steps=full_steps, period=period)
    noted = salient_rows(cache)
    out = decode(tiny_models["llada"], [prompt], cache)
    everything = list(range(len(prompt) + 16))
    found = ""
    for number, entry in enumerate(out.trace or []):
        full = all(layer[0] == everything for layer in noted[number])
        found += "f" if full else {len(everything): "a", 16: "r"}[len(entry.rows[0])]
    assert found == kinds


@pytest.mark.parametrize("family", FAMILIES)
def test_the_change_of_values_is_all_there_is_if_weights_stay(
    family: str, tmp_path: Path, prompts: list[list[int]]
) -> None:
    """Without queries and keys attention is a mean; then C + P dV is exact, with every row salient in later layers."""
    model = load_model(make_tiny(tmp_path, family, **SMALLEST[family]))

    def confidences() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        traces = [  # a whole block per forward: rows without positions are alike, so their order would be rounding
            decode(model, prompts, cache, num_transfer_tokens=4).trace or []
            for cache in (make_cache("dyllm", threshold=2.0, full_steps=1, period=1), None)
        ]
        ours, theirs = ([entry.confidence for entry in trace] for trace in traces)
        return ours, theirs

    ours, theirs = confidences()
    assert not torch.allclose(torch.stack(ours), torch.stack(theirs), atol=1e-4), "weights that change are left out"
    with torch.no_grad():
        for layer in model.layers:
            assert isinstance(layer, Layer)
            size = sum(model.config.qkv_sizes[:2])
            layer.qkv.weight[:size] = 0
            if layer.qkv.bias is not None:
                layer.qkv.bias[:size] = 0
    ours, theirs = confidences()
    torch.testing.assert_close(torch.stack(ours), torch.stack(theirs))


@pytest.mark.parametrize(("threshold", "share"), [(2.0, 1.0), (-2.0, 0.0)])
def test_thresholds_that_no_cosine_reaches(
    threshold: float, share: float, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    cache = make_cache("dyllm", threshold=threshold, full_steps=1, period=4)
    noted = salient_rows(cache)
    out = decode(tiny_models["llada"], prompts, cache)
    for entry, layers in list(zip(out.trace or [], noted, strict=True))[1:]:
        for salient in layers:
            assert salient == (entry.rows if share else [[] for _ in entry.rows])


@pytest.mark.parametrize("family", FAMILIES)
def test_salient_rows_are_those_whose_context_turned(
    family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    """A lower threshold finds fewer of them in the same state: the first layer after the full forwards."""
    found = []
    for threshold in (0.999, 0.99, 0.9, 0.5):
        cache = make_cache("dyllm", threshold=threshold, full_steps=2)
        noted = salient_rows(cache)
        out = decode(tiny_models[family], prompts[:1], cache)
        committed = (out.trace or [])[1].committed[0].nonzero().flatten() + len(prompts[0])
        found.append(set(noted[2][0][0]))
        assert set(committed.tolist()) <= found[0], "the context of a row with another token turns most"
    assert all(fewer <= more for more, fewer in pairwise(found))
    assert found[-1] < found[0]


def test_the_row_before_the_response_runs_while_it_predicts(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    cache, before = make_cache("dyllm", full_steps=1, period=2), len(prompts[0]) - 1
    out = decode(tiny_models["dream"], prompts[:1], cache, block_length=16, alg="random", seed=2)
    masked, seen = True, set()
    for entry in out.trace or []:
        if len(entry.rows[0]) < len(prompts[0]) + 16:
            assert (before in entry.rows[0]) == masked
            seen.add(masked)
        masked = masked and not entry.committed[0, 0]
    assert seen == {True, False}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_forward_that_sees_other_columns_is_full(
    family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    cache = make_cache("dyllm", threshold=-2.0, full_steps=1, period=2)
    noted = salient_rows(cache)
    out = decode(tiny_models[family], prompts[:1], cache, suffix=WindowSuffix(window=2))
    for number, (entry, layers) in enumerate(zip(out.trace or [], noted, strict=True)):
        if number % 4 == 0:  # another block, more columns
            assert len(entry.rows[0]) == entry.visible[0]
            assert all(salient == entry.rows for salient in layers)
        else:
            assert all(salient == [[]] for salient in layers)


def test_it_says_what_it_does_not_take() -> None:
    for parameters, message in (
        ({"threshold": 1.0}, "'threshold' must be at most 0.999999, or above 1"),
        ({"full_steps": 0}, "'full_steps' must be at least 1, not 0"),
        ({"period": 0}, "'period' must be at least 1"),
    ):
        with pytest.raises(UsageError, match=message):
            make_cache("dyllm", **parameters)
