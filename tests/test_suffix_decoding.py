"""Decoding with a suffix rule: against a plain loop over the visible columns, with every cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cache_zoo import Cache, Canvas, Step, Suffix, caches, list_caches, make_cache, make_suffix
from generation import GenerationOutput, generate
from models import Transformer
from tests.plain_pruned import plain_decode
from tests.test_contract import VARIANTS

GEN, BLOCK = 24, 8
FAMILIES = ("llada", "dream")
PARTS: dict[str, dict[str, Any]] = {
    "window": {"window": 3},
    "window of 0": {"window": 0},
    "dropout": {"window": 12, "sigma": 3.0},
    "uniform dropout": {"window": 12, "preserved": 4},
    "no suffix": {"scale": 0},
}
"""Parameters of rules that hide something."""


def rule(part: str) -> Suffix:
    return make_suffix("window" if "window" in part else "dropout", **PARTS[part])


def fast(cache: str) -> dict[str, Any]:
    """Options for tests of every cache: few forwards, blocks that begin at even and odd steps."""
    cls: type[Cache] = caches.get(cache)
    rule = {"alg": "random", "num_transfer_tokens": 2} if cls.needs_planned else {"threshold": 0.2}
    return {"gen_length": 18, "block_length": 6, "seed": 1, **rule}


def busy(cache: str) -> Cache:
    """A cache with parameters that reach its branches on a short canvas."""
    return make_cache(cache, **next(iter(VARIANTS.get(cache, [])), {}))


def decode(
    model: Transformer, prompts: list[list[int]], cache: Cache | str | None, suffix: Suffix | None, **options: Any
) -> GenerationOutput:
    return generate(model, prompts, cache, suffix=suffix, **{"gen_length": GEN, "block_length": BLOCK, **options})


def columns_of_block(model: Transformer, suffix: Suffix, prompt: list[int], seed: int, block: int) -> list[int]:
    """The columns that ``suffix`` shows in a block of one sequence."""
    valid = torch.ones(1, len(prompt) + GEN, dtype=torch.bool)
    canvas: Canvas = model.canvas(valid, GEN, BLOCK, seeds=[seed])
    nothing, start = ~valid, len(prompt) + block * BLOCK
    step = Step(canvas, nothing.long(), nothing, nothing, block_index=[block], bounds=[(start, start + BLOCK)])
    suffix.start(canvas)
    visible = suffix.visible(step)
    return (valid if visible is None else visible)[0].nonzero().flatten().tolist()


@pytest.mark.sampled(6)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("cache", "frozen"), [("none", "nothing"), ("prefix", "before"), ("dual", "outside")])
@pytest.mark.parametrize("part", PARTS)
def test_it_decodes_like_a_plain_loop_over_the_visible_columns(
    part: str, cache: str, frozen: str, family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    """The same tokens, forwards, rows and query-key pairs; position ids are those of the whole canvas."""
    model, prompt = tiny_models[family], prompts[0]
    for threshold in (None, 0.3):
        out = decode(model, [prompt], cache, rule(part), threshold=threshold, seed=3)
        shown = [columns_of_block(model, rule(part), prompt, 3, block) for block in range(GEN // BLOCK)]
        assert len(shown[0]) < len(prompt) + GEN
        with torch.inference_mode():
            plain = plain_decode(model, prompt, GEN, BLOCK, shown.__getitem__, frozen, threshold or 2.0)
        assert out.tokens[0].tolist() == plain.tokens
        counted = out.nfe, out.counts.rows, out.counts.keys
        assert counted == (plain.nfe, plain.rows, plain.pairs * model.config.num_layers)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cache", list_caches())
def test_a_rule_that_hides_nothing_changes_nothing(
    cache: str, family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    expected = decode(tiny_models[family], prompts, cache, None, **fast(cache))
    closing_the_gap = fast(cache)["gen_length"] - fast(cache)["block_length"] - 1  # with the last column
    for name, parameters in (("window", {"window": closing_the_gap}), ("dropout", {"sigma": 0, "scale": 3})):
        out = decode(tiny_models[family], prompts, cache, make_suffix(name, **parameters), **fast(cache))
        assert torch.equal(out.tokens, expected.tokens), (name, parameters)
        assert out.counts == expected.counts, (name, parameters)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cache", list_caches())
@pytest.mark.parametrize("part", ["window", "dropout"])
def test_a_batch_decodes_what_its_sequences_decode_alone(
    part: str, cache: str, family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    model, seeds = tiny_models[family], [8, 2, 5]
    batch = decode(model, prompts, busy(cache), rule(part), **fast(cache) | {"seed": seeds})
    assert (batch.tokens != model.config.mask_id).all()
    assert batch.counts.compute_ratio < 1
    for number, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        alone = decode(model, [prompt], busy(cache), rule(part), **fast(cache) | {"seed": seed})
        assert torch.equal(alone.tokens[0], batch.tokens[number])
        assert alone.nfe == batch.forwards[number]


@pytest.mark.sampled(6)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cache", list_caches())
@pytest.mark.parametrize("part", ["window", "dropout"])
def test_what_is_hidden_and_what_never_ran_does_not_matter(
    part: str,
    cache: str,
    family: str,
    tiny_models: dict[str, Transformer],
    prompts: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the tokens of hidden columns nor fresh memory take part, such as keys of columns that never ran."""
    model, hidden = tiny_models[family], 0
    expected = decode(model, prompts, busy(cache), rule(part), **fast(cache))
    run = model.run

    def scribbling(ids: Tensor, *, step: Step, **further: Any) -> Any:
        nonlocal hidden
        if step.visible is not None:
            hidden += int((~step.visible).sum())
            ids = torch.where(step.visible, ids, step.canvas.columns)
        return run(ids, step=step, **further)

    monkeypatch.setattr(model, "run", scribbling)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # fills what torch.empty returns with NaN
    try:
        assert torch.empty(8).isnan().all()
        out = decode(model, prompts, busy(cache), rule(part), **fast(cache))
    finally:
        torch.use_deterministic_algorithms(before)
    assert hidden > 0
    assert torch.equal(out.tokens, expected.tokens)
    assert out.counts == expected.counts


def test_draws_depend_neither_on_the_order_of_requests_nor_on_other_draws(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    suffix, seeds = rule("dropout"), [4, 9, 6]  # one object for all requests
    options: dict[str, Any] = {"temperature": 0.7, "num_transfer_tokens": 2}
    model = tiny_models["llada"]
    one_by_one = [
        decode(model, [p], "dual", suffix, seed=[s], **options).tokens[0] for p, s in zip(prompts, seeds, strict=True)
    ]
    torch.rand(100)
    backwards = decode(model, prompts[::-1], "dual", suffix, seed=seeds[::-1], **options).tokens
    assert torch.equal(backwards.flip(0), torch.stack(one_by_one))
    other = decode(model, prompts, "dual", suffix, seed=[5, 9, 6], **options).tokens
    assert [torch.equal(*pair) for pair in zip(other, one_by_one, strict=True)] == [False, True, True]


class Recorded(Suffix):
    """A rule that records what another one shows."""

    def __init__(self, inner: Suffix) -> None:
        self.inner = inner
        self.shown: list[Tensor] = []

    def start(self, canvas: Canvas) -> None:
        self.inner.start(canvas)

    def visible(self, step: Step) -> Tensor | None:
        visible = self.inner.visible(step)
        if visible is not None:
            self.shown.append(visible)
        return visible


@pytest.mark.parametrize("cache", ["none", "prefix"])
@pytest.mark.parametrize("part", ["window", "dropout"])
def test_both_contexts_of_guidance_see_the_same(
    part: str, cache: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    recorded = Recorded(rule(part))
    batch = decode(tiny_models["llada"], prompts, cache, recorded, seed=1, cfg_scale=1.0)
    assert len(recorded.shown) > GEN / 2
    for visible in recorded.shown:
        assert torch.equal(*visible.chunk(2))
    for number, prompt in enumerate(prompts):
        alone = decode(tiny_models["llada"], [prompt], cache, rule(part), seed=1 + number, cfg_scale=1.0)
        assert torch.equal(alone.tokens[0], batch.tokens[number])
