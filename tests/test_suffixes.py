"""Which columns a suffix rule shows: against definitions, by distribution, and independent of batch and order."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from cache_zoo import Canvas, Step, Suffix, UsageError, list_suffixes, make_suffix
from cache_zoo.registry import suffixes

ROOT = Path(__file__).resolve().parent.parent
PROMPT, GEN = 5, 24


def step_at(
    ends: list[int], blocks: list[int] | None = None, seeds: list[int] | None = None, prompt: int = PROMPT
) -> Step:
    """A step whose regions, one column each, end before the generated columns ``ends``."""
    batch, length = len(ends), prompt + GEN
    valid = torch.ones(batch, length, dtype=torch.bool)
    canvas = Canvas(
        valid=valid,
        lengths=[length] * batch,
        positions=torch.arange(length).expand(batch, -1),
        prompt_length=prompt,
        gen_length=GEN,
        block_length=1,
        shift=0,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        head_dim=2,
        hidden_size=2,
        dtype=torch.float32,
        seeds=seeds or list(range(batch)),
    )
    bounds = [(prompt + end - 1, prompt + end) for end in ends]
    return Step(canvas, valid.long(), ~valid, ~valid, block_index=blocks or [0] * batch, bounds=bounds)


def shown(suffix: Suffix, *args: Any, **kwargs: Any) -> Tensor:
    """The visible columns of a fresh start, BoolTensor ``[B, T]``."""
    step = step_at(*args, **kwargs)
    suffix.start(step.canvas)
    return mask(suffix, step)


def mask(suffix: Suffix, step: Step) -> Tensor:
    """The visible columns of a step, BoolTensor ``[B, T]``."""
    visible = suffix.visible(step)
    return torch.ones(step.canvas.shape, dtype=torch.bool) if visible is None else visible


def test_the_registry_makes_them() -> None:
    assert list_suffixes()[:3] == ["all", "window", "dropout"]
    for name in list_suffixes():
        assert "arXiv" in make_suffix(name).paper
    assert suffixes.parameters("window") == {"window": 32}
    assert suffixes.parameters("dropout") == {"window": 256, "sigma": 4.0, "scale": 2.0, "preserved": None}


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("windw", {}, "unknown suffix 'windw': did you mean 'window'"),
        ("window", {"windows": 3}, "unknown parameter 'windows' of suffix 'window': did you mean 'window'"),
        ("window", {"window": -1}, "'window' must be at least 0 .*not -1"),
        ("window", {"window": 1.5}, "'window' must be a whole number, not 1.5"),
        ("window", {"window": None}, "parameter 'window' must be a whole number, not None"),
        ("dropout", {"window": 0}, "'window' must be at least 1, not 0; scale=0 drops the suffix"),
        ("dropout", {"sigma": -0.1}, "'sigma' must be a number from 0 on, not -0.1"),
        ("dropout", {"sigma": math.nan}, "'sigma' must be a number from 0 on, not nan"),
        ("dropout", {"scale": math.inf}, "'scale' must be a number from 0 on, not inf"),
        ("dropout", {"preserved": -1}, "'preserved' must be between 0 and 'window' .256., not -1"),
        ("dropout", {"preserved": 9, "window": 8}, "'preserved' must be between 0 and 'window' .8., not 9"),
        ("dropout", {"preserved": 2.5}, "'preserved' must be a whole number or null, not 2.5"),
    ],
)
def test_bad_parameters_are_named(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_suffix(name, **parameters)


def test_the_whole_suffix_is_no_mask() -> None:
    assert make_suffix("all").visible(step_at([8])) is None


@pytest.mark.parametrize("window", [0, 1, 7, 14, 15, 16, 100])
def test_a_window_shows_its_columns_and_the_last(window: int) -> None:
    ends = [8, 16, 24]
    expected = torch.zeros(len(ends), PROMPT + GEN, dtype=torch.bool)
    for b, end in enumerate(ends):
        suffix = list(range(PROMPT + end, PROMPT + GEN))
        near = suffix[:window] + (suffix[-1:] if len(suffix) > window else [])
        expected[b, [*range(PROMPT + end), *near]] = True
    rule = make_suffix("window", window=window)
    assert torch.equal(shown(rule, ends), expected)
    assert rule.visible(step_at(ends)) is rule.visible(step_at(ends))
    for b, end in enumerate(ends):  # nothing hidden, no mask: from one less than the suffix on
        assert (rule.visible(step_at([end])) is None) == bool(expected[b].all()) == (window >= GEN - end - 1)


@pytest.mark.parametrize(
    "parameters",
    [
        {"window": 16},
        {"window": 16, "sigma": 3.0, "scale": 2.3},
        {"window": 12, "sigma": 2.0, "scale": 4.0},
        {"window": 1, "scale": 1.0},
        {"window": 100, "sigma": 0.0, "scale": 1.0},
    ],
)
def test_the_draw_has_the_density(parameters: dict[str, Any]) -> None:
    """Of 4000 sequences, each column stays in as many as its probability allows, by an exact two-sided bound."""
    sequences, end = 4000, 4
    sigma, scale, window = parameters.get("sigma", 4.0), parameters.get("scale", 2.0), parameters["window"]
    rule = make_suffix("dropout", **parameters)
    kept = shown(rule, [end] * sequences, blocks=[1] * sequences)
    assert kept[:, : PROMPT + end].all()
    counts = kept[:, PROMPT + end :].sum(dim=0).tolist()
    assert len(counts) == GEN - end
    for distance, count in enumerate(counts):
        x = torch.linspace(0, sigma, window)[distance].item() if distance < window else math.inf
        probability = min(1.0, scale * math.exp(-x * x / 2) / math.sqrt(2 * math.pi))
        low, high = binom.ppf([1e-5, 1 - 1e-5], sequences, probability)
        assert low <= count <= high, distance
    pairs = kept[:, PROMPT + end :].double()
    if pairs[:, :2].var(dim=0).min() > 0:  # neighbours are drawn independently
        first, second, both = counts[0], counts[1], (pairs[:, 0] * pairs[:, 1]).sum().item()
        low, high = binom.ppf([1e-5, 1 - 1e-5], first, second / sequences)
        assert low <= both <= high


@pytest.mark.parametrize(("window", "preserved"), [(16, 4), (16, 0), (16, 16), (64, 6)])
def test_the_uniform_draw_keeps_its_number_of_equally_likely_columns(window: int, preserved: int) -> None:
    sequences, end = 3000, 4
    kept = shown(make_suffix("dropout", window=window, preserved=preserved), [end] * sequences)[:, PROMPT + end :]
    near = min(window, GEN - end)
    assert (kept.sum(dim=1) == preserved).all()
    assert not kept[:, near:].any()
    low, high = binom.ppf([1e-5, 1 - 1e-5], sequences, preserved / near)
    assert all(low <= count <= high for count in kept[:, :near].sum(dim=0).tolist())


def test_a_shorter_suffix_than_preserved_stays_whole() -> None:
    rule = make_suffix("dropout", window=16, preserved=6)
    assert shown(rule, [GEN - 5]).all()
    assert shown(rule, [GEN - 8]).sum() == PROMPT + GEN - 8 + 6


@pytest.mark.parametrize(
    "parameters", [{"scale": 3.0, "sigma": 0.0}, {"window": 10**30, "scale": 2.51}, {"window": 24, "preserved": 24}]
)
def test_what_keeps_everything_is_no_mask(parameters: dict[str, Any]) -> None:
    rule = make_suffix("dropout", **parameters)
    step = step_at([8, 16])
    rule.start(step.canvas)
    assert rule.visible(step) is None


def test_scale_0_leaves_no_suffix() -> None:
    expected = torch.arange(PROMPT + GEN) < PROMPT + 8
    assert torch.equal(shown(make_suffix("dropout", scale=0), [8])[0], expected)


def test_the_last_block_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rule, step = make_suffix("dropout"), step_at([GEN, GEN])
    rule.start(step.canvas)
    monkeypatch.setattr(torch, "Generator", None)
    assert rule.visible(step) is None


@pytest.mark.parametrize("preserved", [None, 5])
def test_a_draw_depends_on_seed_and_block_alone(preserved: int | None) -> None:
    def draw(*args: Any, **kwargs: Any) -> Tensor:
        return shown(make_suffix("dropout", preserved=preserved), *args, **kwargs)

    seeds, blocks, ends = [7, 8, 2**32 + 7, 7, 2**61, -3], [0, 2, 0, 1, 1, 0], [8, 16, 8, 8, 8, 8]
    batch = draw(ends, blocks, seeds)
    torch.manual_seed(5)  # the global generator takes no part
    for b, region in enumerate(zip(ends, blocks, seeds, strict=True)):
        assert torch.equal(draw(*([one] for one in region))[0], batch[b])
    assert torch.equal(draw(ends[::-1], blocks[::-1], seeds[::-1]), batch.flip(0))
    at_8 = [tuple(row.tolist()) for row, end in zip(batch, ends, strict=True) if end == 8]
    assert len(set(at_8)) == len(at_8)
    # left padding moves the columns and changes nothing else
    assert torch.equal(draw(ends, blocks, seeds, prompt=PROMPT + 3)[:, 3:], batch)
    # a doubled batch (classifier-free guidance) draws twice the same
    assert torch.equal(draw(ends * 2, blocks * 2, seeds * 2), batch.repeat(2, 1))


def test_neighbouring_seeds_share_no_draw() -> None:
    half = make_suffix("dropout", sigma=0, scale=math.sqrt(2 * math.pi) / 2)  # 20 columns at 1/2
    rows = shown(half, [4] * 200, blocks=[n % 10 for n in range(200)], seeds=[n // 10 for n in range(200)])
    assert len({tuple(row.tolist()) for row in rows}) == 200


def test_a_block_keeps_its_columns_and_the_next_one_draws() -> None:
    rule, step = make_suffix("dropout"), step_at([8, 8], [0, 0])
    rule.start(step.canvas)
    first = mask(rule, step)
    assert mask(rule, step_at([8, 8], [0, 0])) is first  # nothing to compare on the device
    second = mask(rule, step_at([16, 8], [1, 0]))
    assert not torch.equal(second[0], first[0])
    assert torch.equal(second[1], first[1])
    rule.drop_finished(torch.tensor([1]))
    assert torch.equal(mask(rule, step_at([8], [0], [1])), first[1:])


@pytest.mark.parametrize("name", ["window", "dropout"])
def test_a_rule_forgets_the_last_generation(name: str) -> None:
    rule = make_suffix(name, window=4)
    before = shown(rule, [8])
    again = shown(rule, [8 - 3], prompt=PROMPT + 3)  # the same seed, block and bounds on a longer canvas
    assert again.shape[1] == before.shape[1] + 3
    assert torch.equal(again, shown(make_suffix(name, window=4), [8 - 3], prompt=PROMPT + 3))


def test_a_region_that_grows_hides_nothing_that_it_showed() -> None:
    rule = make_suffix("dropout", window=20, sigma=3.0)
    before = shown(rule, [2] * 50)
    for end in range(3, GEN):
        now = shown(rule, [end] * 50)
        assert (now | ~before).all()
        before = now


def test_the_document_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "suffixes.md").read_text()
    found = re.search(r"```python\n(from torch.*?)```", text, re.DOTALL)
    assert found is not None
    module = ModuleType("my_module")
    monkeypatch.setitem(sys.modules, "my_module", module)
    exec(found.group(1), module.__dict__)
    odd = make_suffix("my_module:EveryOther")
    assert shown(odd, [8])[0].int().tolist() == [1] * (PROMPT + 8) + [1, 0] * 8
    density = [2 * math.exp(-((4 * d / 255) ** 2) / 2) / math.sqrt(2 * math.pi) for d in range(256)]
    assert f"{sum(density):.0f} of 256 columns" in text
    assert f"that is {density[0]:.2f}, so" in text
    for name in ("all", "window", "dropout"):
        (row,) = re.findall(rf"(?m)^\| `{name}` \|.*$", text)
        assert all(number in make_suffix(name).paper for number in re.findall(r"arXiv ([\d.]+)", row))
        assert re.findall(r"`(\w+)`", row.split("|")[3]) == list(suffixes.parameters(name))
