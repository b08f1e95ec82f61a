"""Elastic-Cache: what runs, what is tracked, when it refreshes, and where it equals no cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cache_zoo import KVCache, Step, UsageError, make_cache
from cache_zoo.suffixes.window import WindowSuffix
from generation import GenerationOutput, generate
from models import Transformer, load_model
from models.layers import Layer
from models.tiny import make_tiny

ONE_LAYER: dict[str, dict[str, int]] = {
    "llada": {"d_model": 32, "n_layers": 1, "mlp_hidden_size": 64},
    "dream": {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64},
}
WAYS: dict[str, dict[str, Any]] = {
    "window-3": {"strategy": "window", "window": 3, "block_length": None},
    "window-16": {"strategy": "window", "window": 16, "block_length": None, "threshold": 0.3},
    "blocks": {"block_length": 4},
    "pruned": {"block_length": 4, "suffix": WindowSuffix(window=2)},
}


def decode(model: Transformer, prompts: list[list[int]], cache: Any = None, **options: Any) -> GenerationOutput:
    return generate(model, prompts, cache, trace=True, **{"gen_length": 16, **options})


@pytest.fixture(scope="module", params=["llada", "dream"])
def one_layer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    return load_model(make_tiny(tmp_path_factory.mktemp("one"), request.param, **ONE_LAYER[request.param]))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("block_caching", [True, False])
@pytest.mark.parametrize("gamma", [-1.0, 2.0])
@pytest.mark.parametrize("way", WAYS)
def test_with_one_layer_it_equals_no_cache(
    way: str, gamma: float, block_caching: bool, one_layer: Transformer, prompts: list[list[int]]
) -> None:
    cache = make_cache("elastic", gamma=gamma, block_caching=block_caching)
    expected = decode(one_layer, prompts, **WAYS[way])
    out = decode(one_layer, prompts, cache, **WAYS[way])
    assert torch.equal(out.tokens, expected.tokens)
    for ours, theirs in zip(out.trace or [], expected.trace or [], strict=True):
        assert torch.equal(ours.canvas, theirs.canvas)
        live = ours.confidence.isfinite()
        torch.testing.assert_close(ours.confidence[live], theirs.confidence[live])
    assert out.counts.rows < 0.8 * expected.counts.rows


@pytest.mark.parametrize("gamma", [-1.0, 0.0])
def test_cosines_of_weights_are_never_below_zero(
    gamma: float, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    out = decode(tiny_models["llada"], prompts, make_cache("elastic", gamma=gamma), **WAYS["window-3"])
    for entry in (out.trace or [])[1:]:
        assert all(rows == entry.layer_rows[0] for rows in entry.layer_rows)
        assert all(len(rows) <= 3 + 1 + 3 for rows in entry.rows)  # window, committed, one tracked token a layer


def test_above_one_it_refreshes_from_the_second_layer_on(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    out = decode(tiny_models["dream"], prompts, make_cache("elastic", gamma=2.0), **WAYS["window-3"])
    for entry in (out.trace or [])[1:]:
        assert all(len(rows) <= 3 + 1 + 3 for rows in entry.layer_rows[0])
        for layer in entry.layer_rows[1:]:
            assert [len(rows) for rows in layer] == [len(prompts[b]) + 16 for b in entry.active]


def test_with_one_head_nothing_drifts(tmp_path: Path, prompts: list[list[int]]) -> None:
    """The cosine is taken across heads, so it is 1 as long as no weight is as good as zero."""
    sizes = {"d_model": 32, "n_heads": 1, "n_kv_heads": 1, "n_layers": 3, "mlp_hidden_size": 64}
    model = load_model(make_tiny(tmp_path, "llada", **sizes))
    with torch.no_grad():
        for layer in model.layers:
            assert isinstance(layer, Layer)
            layer.qkv.weight[: sum(model.config.qkv_sizes[:2])] *= 0.3
    out = decode(model, prompts, make_cache("elastic", gamma=0.999), block_length=4)
    assert all(rows == entry.layer_rows[0] for entry in (out.trace or [])[1:] for rows in entry.layer_rows)


@pytest.mark.parametrize("way", ["window-3", "pruned"])
def test_sequences_refresh_on_their_own(
    way: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    model, cache = tiny_models["llada"], make_cache("elastic", gamma=0.96)
    batch = decode(model, prompts, cache, **WAYS[way])
    alone = [decode(model, [prompt], cache, **WAYS[way]) for prompt in prompts]
    width, apart = max(map(len, prompts)), 0
    for number, entry in enumerate(batch.trace or []):
        wide = []
        for place, b in enumerate(entry.active):
            ours = [layer[place] for layer in entry.layer_rows]
            single = (alone[b].trace or [])[number].layer_rows
            assert [[p - width + len(prompts[b]) for p in rows] for rows in ours] == [layer[0] for layer in single]
            wide.append(len(ours[-1]) > len(ours[0]))
        apart += any(wide) and not all(wide)
    assert apart, "all sequences refreshed together: choose another gamma"


class Watching(KVCache):
    """No cache that sums the attention of the masks in the first forward, by layer."""

    paper = "made up"
    needs_attention = True

    def start(self, canvas: Any) -> None:
        super().start(canvas)
        self.received: list[Tensor] = []

    def observe_attention(self, layer: int, weights: Tensor, step: Step) -> None:
        if step.index == 0:
            window = step.committable.roll(-step.canvas.shift, dims=1)
            self.received.append(step.rows.scatter(weights)[window].sum(dim=0))


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_the_most_attended_tokens_run_next(
    family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    model, prompt, watching = tiny_models[family], prompts[0], Watching()
    options: dict[str, Any] = {"block_length": 4, "num_transfer_tokens": 4}
    decode(model, [prompt], watching, **options)
    tracked = {layer[: len(prompt)].topk(2).indices for layer in watching.received}
    first, second = (decode(model, [prompt], make_cache("elastic", gamma=0.0, track_num=2), **options).trace or [])[:2]
    committed = first.committed[0].nonzero().flatten() + len(prompt)
    window = torch.arange(4, 8) + len(prompt) - model.config.shift
    assert second.rows[0] == torch.cat((*tracked, committed, window)).unique().tolist()


def test_it_says_what_it_does_not_take() -> None:
    with pytest.raises(UsageError, match="'track_num' must be at least 1, not 0"):
        make_cache("elastic", track_num=0)
