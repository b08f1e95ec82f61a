"""The parts of d2Cache that have a closed form."""

from __future__ import annotations

import pytest
import torch

from cache_zoo import Rows
from cache_zoo.methods.certainty import certainty_density
from cache_zoo.methods.rollout import inflate, nucleus, rollout_importance


@pytest.mark.parametrize("lengths", [(9, 9), (9, 4), (3, 9)])
def test_the_reverse_sweep_equals_the_matrix_product(lengths: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    total, layers = 13, 5
    mask = torch.stack([torch.randperm(total, generator=generator) < count for count in lengths])
    rows = Rows.from_mask(mask)
    weights = [
        torch.rand(len(rows), total, generator=generator, dtype=torch.float64).softmax(dim=1) for _ in range(layers)
    ]
    identity = torch.eye(total, dtype=torch.float64)
    rollout = identity.repeat(2, 1, 1)
    for attention in weights:
        full = identity.repeat(2, 1, 1)
        full[mask] = attention
        full = full + identity
        rollout = full / full.sum(dim=-1, keepdim=True) @ rollout
    difference = (rollout_importance(weights, rows) - rollout.sum(dim=1)).abs().max()
    assert difference < 1e-12


@pytest.mark.parametrize("sigma", [0.5, 3.0, 10.0])
def test_density_is_the_sum_it_says(sigma: float) -> None:
    length = 12
    committed = torch.rand(4, length, generator=torch.Generator().manual_seed(1)) < 0.4
    committed[0], committed[1] = True, False
    found = certainty_density(committed, sigma)
    mass = sum(pow(2.718281828459045, -(d**2) / (2 * sigma**2)) for d in range(-3 * length, 3 * length))
    for b in range(4):
        for j in range(length):
            total = 0.0
            for k in range(-length, 2 * length):
                known = True if k < 0 else bool(committed[b, min(k, length - 1)])
                total += known * pow(2.718281828459045, -((j - k) ** 2) / (2 * sigma**2))
            assert found[b, j].item() == pytest.approx(total / mass, abs=1e-6)


def test_density_knows_the_prompt_and_not_the_end() -> None:
    density = certainty_density(torch.zeros(1, 64, dtype=torch.bool), sigma=10.0)[0]
    assert density[0].item() == pytest.approx(0.48, abs=0.005)
    assert (density.diff() < 0).all()
    assert density[-1] < 1e-8


def test_the_nucleus_excludes_the_position_that_crosses_and_holds_at_least_one() -> None:
    importance = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    among = torch.ones(1, 4, dtype=torch.bool)
    assert nucleus(importance, 0.75, among).tolist() == [[True, True, False, False]]
    assert nucleus(importance, 0.69, among).tolist() == [[True, False, False, False]]
    assert nucleus(importance, 0.0, among).tolist() == [[True, False, False, False]]
    assert nucleus(importance, 1.0, among).all()
    some = torch.tensor([[False, True, True, True]])
    assert nucleus(importance, 0.5, some).tolist() == [[False, True, False, False]]
    assert not nucleus(importance, 0.5, torch.zeros_like(some)).any()


def test_equal_importance_goes_to_the_lowest_position() -> None:
    among = torch.ones(1, 8, dtype=torch.bool)
    assert nucleus(torch.ones(1, 8), 0.4, among).int().tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("window", "expected"),
    [(1, "..#..#...#.#"), (2, "..#..#...###"), (3, "..####...###"), (4, "..##########"), (9, "..##########")],
)
def test_inflate_fills_gaps_up_to_the_window(window: int, expected: str) -> None:
    chosen = torch.tensor([[letter == "#" for letter in "..#..#...#.#"]])
    assert "".join("#" if on else "." for on in inflate(chosen, window)[0]) == expected


def test_inflate_leaves_nothing_chosen_alone() -> None:
    assert not inflate(torch.zeros(2, 5, dtype=torch.bool), 4).any()
