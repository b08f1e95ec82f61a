"""MaskKV against a naive reference that masks a whole canvas, and its budgets."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cache_zoo import AttentionBlock, Canvas, KVCache, Outcome, Step, UsageError, make_cache, make_suffix
from cache_zoo.methods.budgets import apportion, head_shares, layer_shares
from generation import GenerationOutput, generate
from models import Transformer

LENGTH = 16
FAMILIES = ["llada", "dream"]


class Frozen(KVCache):
    """The prompt runs once; the response always."""

    paper = "made up"

    def rows(self, step: Step) -> Tensor | None:
        self.response = step.canvas.columns >= step.canvas.prompt_length - step.canvas.window_shift
        return self.response.expand(step.ids.shape) | (step.index == 0)


class Naive(Frozen):
    """Keys and values of all columns, hidden by a mask; votes row by row."""

    def __init__(self, budget: int, alpha: float = 0.5, beta: float = 0.5) -> None:
        self.budget, self.alpha, self.beta = budget, alpha, beta

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        self.votes: list[Tensor] = []
        self.change: list[list[float]] = []
        self.preference: list[list[list[float]]] = []
        self.attended: list[Tensor] = []

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        rows = step.rows
        query, key, value = attn.project(attn.norm(x), rows)
        self.store.write(layer, rows, key, value)
        keys, values = self.store.read(layer, step.canvas.all_columns)
        visible = step.canvas.valid if step.visible is None else step.visible
        mask = visible.unsqueeze(1).expand(-1, keys.shape[2], -1)
        if step.index > 0:
            mask = mask & (self.attended[layer] | self.response.unsqueeze(1))
        out = attn.output(attn.attend(query, rows, keys, values, mask=mask))
        if step.index == 0:
            self.observe(step, rows.scatter(query), keys, rows.scatter(x), rows.scatter(x + out), visible)
        return out

    def observe(self, step: Step, query: Tensor, keys: Tensor, x: Tensor, after: Tensor, visible: Tensor) -> None:
        batch, length, groups, width = keys.shape
        votes, change, preference = torch.zeros(batch, groups, length), [], []
        for b in range(batch):
            columns, masks = visible[b].nonzero().flatten(), step.masked[b]
            for row in (masks & visible[b]).nonzero().flatten().tolist():
                for head in range(query.shape[2]):
                    group = head * groups // query.shape[2]
                    scores = keys[b, columns, group] @ query[b, row, head] / math.sqrt(width)
                    votes[b, group, columns] += scores.softmax(dim=0)
            prompt = visible[b] & ~self.response[0]
            on_prompt, on_masks = votes[b][:, prompt].sum(dim=1), votes[b][:, masks].sum(dim=1)
            preference.append((on_prompt / (on_prompt + on_masks)).tolist())
            cosines = [torch.cosine_similarity(x[b, c], after[b, c], dim=0) for c in columns.tolist()]
            change.append(1 - float(sum(cosines)) / len(cosines))
            votes[b][:, ~prompt] = -1
        self.votes.append(votes)
        self.change.append(change)
        self.preference.append(preference)

    def end_step(self, step: Step, outcome: Outcome) -> None:
        if step.index > 0:
            return
        layers, (batch, groups, _) = len(self.votes), self.votes[0].shape
        change = torch.tensor(self.change).T
        preference = torch.tensor(self.preference).transpose(0, 1)
        shares = layer_shares(change, self.alpha).unsqueeze(2) * head_shares(preference, self.beta)
        self.attended = [torch.zeros_like(votes, dtype=torch.bool) for votes in self.votes]
        for b in range(batch):
            prompt = int((self.votes[0][b, 0] >= 0).sum())
            total = layers * groups * min(self.budget, prompt)
            sizes = apportion(shares[b].flatten().tolist(), total, prompt)
            for n, size in enumerate(sizes):
                layer, group = divmod(n, groups)
                votes = self.votes[layer][b, group].tolist()
                for column in sorted(range(len(votes)), key=lambda c: -votes[c])[:size]:
                    self.attended[layer][b, group, column] = True

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        self.attended = [attended[kept] for attended in self.attended]


def same(ours: GenerationOutput, expected: GenerationOutput) -> None:
    assert ours.tokens.tolist() == expected.tokens.tolist()
    assert ours.forwards == expected.forwards
    assert ours.counts.rows == expected.counts.rows
    assert ours.counts.keys == pytest.approx(expected.counts.keys)


DECODERS: dict[str, dict[str, Any]] = {
    "blocks": {"block_length": 4},
    "threshold": {"block_length": 8, "threshold": 0.35},
    "first-token": {"block_length": 8, "schedule": "dream", "steps": 16, "first_forward": "first_token"},
    "suffix": {"block_length": 4, "suffix": make_suffix("window", window=2)},
    "guided": {"block_length": 8, "cfg_scale": 0.5},
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("parameters", [{"budget": 3}, {"budget": 2, "alpha": 0.0, "beta": 0.0}], ids=str)
@pytest.mark.parametrize("decoder", DECODERS)
def test_it_equals_the_naive_reference(
    decoder: str,
    parameters: dict[str, Any],
    family: str,
    tiny_models: dict[str, Transformer],
    prompts: list[list[int]],
) -> None:
    options = {"gen_length": LENGTH, **DECODERS[decoder]}
    expected = generate(tiny_models[family], prompts, Naive(**parameters), **options)
    same(generate(tiny_models[family], prompts, make_cache("maskkv", **parameters), **options), expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("parameters", [{}, {"budget": 11, "alpha": 0.0, "beta": 0.0}], ids=str)
def test_a_budget_of_the_whole_prompt_is_a_frozen_prompt(
    parameters: dict[str, Any], family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    options = {"gen_length": LENGTH, "block_length": 4}
    expected = generate(tiny_models[family], prompts, Frozen(), **options)
    same(generate(tiny_models[family], prompts, make_cache("maskkv", **parameters), **options), expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shortest", [[[5]], [[5], [1, 2, 3]]], ids=str)
def test_a_prompt_of_one_token(shortest: list[list[int]], family: str, tiny_models: dict[str, Transformer]) -> None:
    options = {"gen_length": 8, "block_length": 4}
    expected = generate(tiny_models[family], shortest, Frozen(), **options)
    same(generate(tiny_models[family], shortest, make_cache("maskkv", budget=3), **options), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_smaller_budget_holds_fewer_bytes_and_any_store_works(
    family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    def held(budget: int, store: str = "native") -> int:
        cache = make_cache("maskkv", budget=budget)
        seen = []

        def note(step: Step, outcome: Outcome) -> None:
            type(cache).end_step(cache, step, outcome)
            seen.append(cache.nbytes())

        cache.end_step = note  # type: ignore[method-assign]
        generate(tiny_models[family], prompts, cache, gen_length=LENGTH, block_length=4, store=store)
        return seen[0]

    assert held(2) < held(4) < held(8)
    assert held(4, "int8") < held(4)


def test_budgets_sum_to_the_total_and_stay_below_the_limit() -> None:
    generator = torch.Generator().manual_seed(0)
    for number in range(200):
        size, limit = 1 + number % 13, 1 + number % 7
        shares = (0.01 + torch.rand(size, generator=generator) ** 4).tolist()
        total = int(torch.randint(0, size * limit + 1, (1,), generator=generator))
        whole = apportion(shares, total, limit)
        assert sum(whole) == total
        assert all(0 <= one <= limit for one in whole)
        unlimited = apportion(shares, total, total)
        exact = [total * share / sum(shares) for share in shares]
        assert all(abs(one - share) < 1 for one, share in zip(unlimited, exact, strict=True))


@pytest.mark.parametrize(
    ("shares", "total", "limit", "expected"),
    [
        ([1, 1, 1, 1], 6, 9, [2, 2, 1, 1]),
        ([4, 2, 1, 1], 8, 9, [4, 2, 1, 1]),
        ([4, 2, 1, 1], 8, 3, [3, 3, 1, 1]),  # 3, then 5 as 2.5, 1.25 and 1.25
        ([9, 1], 10, 5, [5, 5]),
        ([1, 2], 0, 5, [0, 0]),
    ],
)
def test_budgets_of_some_shares(shares: list[float], total: int, limit: int, expected: list[int]) -> None:
    assert apportion(shares, total, limit) == expected


def test_permuted_heads_get_permuted_budgets() -> None:
    shares = (0.1 + torch.rand(12, generator=torch.Generator().manual_seed(1))).tolist()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2)).tolist()
    before = apportion(shares, 50, 7)
    assert apportion([shares[n] for n in order], 50, 7) == [before[n] for n in order]


def test_layers_share_by_group_and_heads_by_preference() -> None:
    change = torch.tensor([[0.5, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1, 0.4]])  # boundary: 2 layers at each end
    boundary, middle = 0.5 + 0.1 + 0.1 + 0.4, 0.1 + 0.2 + 0.1 + 0.1
    for alpha in (0.0, 0.3, 1.0):
        found = layer_shares(change, alpha)[0].tolist()
        rest = [(1 - alpha) * 8 * group / (boundary + middle) / 4 for group in (boundary, middle)]
        expected = [alpha + rest[0]] * 2 + [alpha + rest[1]] * 4 + [alpha + rest[0]] * 2
        assert found == pytest.approx(expected, abs=1e-6)
    assert layer_shares(torch.tensor([[0.0, 0.0, 0.0]]), 0.0).tolist() == [pytest.approx([1, 1, 1])]
    assert layer_shares(torch.tensor([[0.3]]), 0.5).tolist() == [[1.0]]
    assert head_shares(torch.tensor([[[0.6, 0.2]]]), 0.5)[0, 0].tolist() == pytest.approx([1.25, 0.75])
    assert head_shares(torch.tensor([[[0.6, 0.2]]]), 1.0)[0, 0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"budget": 0}, "'budget' must be at least 1, not 0"),
        ({"alpha": -0.1}, "'alpha' must be between 0 and 1, not -0.1"),
        ({"beta": 2.0}, "'beta' must be between 0 and 1, not 2.0"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_cache("maskkv", **parameters)
