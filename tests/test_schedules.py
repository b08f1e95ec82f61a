"""How many tokens a forward commits: schedules, the dynamic threshold, and the options that say so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from cache_zoo import UsageError
from generation import GenerationOptions
from generation.sampling import gumbel, uniform_of
from generation.selection import commit_best, damped_threshold, dream_share, dream_times, quota


def dream(block: int, steps: int, first_token: bool = False, eps: float = 1e-3) -> list[int]:
    """Tokens of each forward of one block."""
    options = GenerationOptions(gen_length=block, block_length=block, steps=steps, schedule="dream", eps=eps)
    taken = [1] if first_token else []
    while sum(taken) < block:
        taken.append(quota(options, len(taken), block - sum(taken)))
    return taken


@pytest.mark.parametrize(
    ("block", "steps", "expected"),
    [
        (256, 256, [0] + [1] * 254 + [2]),
        (256, 128, [1] + [2] * 126 + [3]),
        (256, 64, [3] + [4] * 62 + [5]),
        (32, 8, [3] + [4] * 6 + [5]),
        (32, 1, [32]),
    ],
)
def test_dreams_schedule_is_uneven_at_its_ends(block: int, steps: int, expected: list[int]) -> None:
    """As Dream's sampler takes them, float32 rounding included."""
    assert dream(block, steps) == expected


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(32, [1, 0] + [1] * 29 + [2]), (8, [1, 4, 4, 4, 4, 4, 5, 6]), (1, [1, 31])],
)
def test_a_first_token_takes_the_first_step_of_dreams_schedule(steps: int, expected: list[int]) -> None:
    """As in Fast-dLLM's and Sparse-dLLM's loops; with one step theirs leave masks."""
    assert dream(32, steps, first_token=True) == expected


def test_a_late_last_time_leaves_more_for_the_end() -> None:
    assert dream(30, 3, eps=0.25) == [7, 7, 16]


def test_the_schedule_of_the_canvas_counts_all_masks() -> None:
    """FlashDLM's: the share of all masks left, at most the block, and a block's last forward takes its rest."""
    options = GenerationOptions(gen_length=8, block_length=4, steps=4, schedule="dream_canvas", eps=0.5)
    # times 1, 0.875, 0.75, 0.625, 0.5: an eighth of 8, the rest; a sixth of 4, the rest
    assert [quota(options, 0, 4, later=4), quota(options, 1, 3, later=4)] == [1, 3]
    assert [quota(options, 0, 4, block=1), quota(options, 1, 4, block=1)] == [0, 4]
    assert quota(options, 0, 0, later=8) == 0
    assert dream(4, 2, eps=0.5) == [1, 3]
    alone = replace(options, block_length=None)
    assert quota(alone, 3, 40) == quota(replace(alone, schedule="dream"), 3, 40)


def test_shares_are_the_fall_of_time() -> None:
    times = dream_times(4, 0.2)
    torch.testing.assert_close(times, torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2]))
    torch.testing.assert_close(dream_share(4, 0.2, 2), torch.tensor(1 - 0.4 / 0.6))


def test_the_threshold_falls_with_the_masks_that_ran() -> None:
    masked = torch.tensor([[False, False, True, True, True, True], [False, True, True, True, True, True]])
    ran = torch.tensor([[True, True, True, True, False, True], [False, True, True, False, False, False]])
    seen = damped_threshold(0.8, 0.5, masked, ran, [1, 1])
    torch.testing.assert_close(seen, torch.tensor([0.8 * (1 - 0.5 * (1 - 3 / 4)), 0.8]))
    # no row of the block ran: a row before it predicts its only mask
    assert damped_threshold(0.8, 0.5, masked[:1], torch.zeros(1, 6, dtype=torch.bool), [1]).isfinite().all()


def test_each_sequence_has_its_own_threshold() -> None:
    score, eligible = torch.tensor([[0.6, 0.5, 0.7]] * 2), torch.ones(2, 3, dtype=torch.bool)
    chosen = commit_best(
        score, eligible, torch.ones(2).long(), GenerationOptions(threshold=0.9), torch.tensor([0.6, 0.9])
    )
    assert chosen.int().tolist() == [[1, 0, 1], [0, 0, 1]]


def test_draws_of_a_sequence_depend_on_its_seed_and_their_purpose_alone() -> None:
    both = uniform_of([3, 4], 8, "order")
    assert torch.equal(both[1:], uniform_of([4], 8, "order"))
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(both[1:], uniform_of([4], 8, "other"))
    assert not torch.equal(both[1], torch.rand(8, generator=torch.Generator().manual_seed(4)))


def test_the_highest_of_logs_with_gumbel_noise_are_draws_without_replacement() -> None:
    probability = torch.tensor([0.1, 0.2, 0.3, 0.4])
    uniform = torch.rand(40_000, 4, generator=torch.Generator().manual_seed(1))
    order = (probability.log() + gumbel(uniform)).argsort(dim=1, descending=True)
    torch.testing.assert_close(order[:, 0].bincount() / 40_000, probability, atol=0.01, rtol=0)
    second = order[order[:, 0] == 3, 1]
    torch.testing.assert_close(second.bincount() / len(second), probability[:3] / 0.6, atol=0.015, rtol=0)
    assert gumbel(torch.tensor([0.0, 1 - 2**-24])).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "drem"}, "unknown schedule 'drem': did you mean 'dream'?"),
        ({"schedule": "dream"}, "schedule=dream shares out the tokens of steps; give steps"),
        ({"schedule": "dream", "steps": 8, "num_transfer_tokens": 2}, "two schedules"),
        ({"eps": 0.0}, "eps must be between 0 and 1, not 0.0"),
        ({"alpha": 0.3}, "alpha (0.3) lowers a threshold; give one"),
        ({"alpha": 1.5, "threshold": 0.9}, "alpha must be 0 to 1, not 1.5"),
        ({"alpha": 0.3, "threshold": -1.0, "alg": "entropy"}, "alg=entropy has none, try alg=maskgit_plus"),
        ({"alg": "origin"}, "alg=origin draws by the times of Dream's schedule; give schedule=dream"),
        ({"alg": "origin", "steps": 8, "schedule": "dream_canvas"}, "give schedule=dream, not dream_canvas"),
        ({"alg": "origin", "steps": 8, "schedule": "dream", "sigma": 4.0}, "sigma=4.0 ranks tokens"),
        ({"alg": "random", "threshold": 0.9}, "threshold takes the most confident tokens and alg=random draws"),
        ({"alg_temp": 0.5, "factor": 1.0}, "factor takes the most confident tokens and alg_temp=0.5 draws"),
        ({"alg_temp": 0.5, "alg": "random"}, "alg_temp=0.5 draws by confidences; alg=random has none"),
        ({"alg_temp": -1.0}, "alg_temp must not be negative"),
        ({"first_forward": "first"}, "unknown first_forward 'first': did you mean 'first_token'?"),
        ({"eos": "fil"}, "unknown eos 'fil': did you mean 'fill'?"),
        ({"eos": "drop", "stop_until_eos": True}, "eos=drop and stop_until_eos are two rules"),
        ({"cfg_scale": -1.0}, "cfg_scale must be at least 0, not -1.0"),
        ({"strategy": 3}, "strategy must be text, not 3"),
    ],
)
def test_options_that_contradict_each_other_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        GenerationOptions.make(**{"gen_length": 32, "block_length": 8, **options})
    assert message in str(error.value)


def test_options_that_go_together() -> None:
    steps = {"gen_length": 32, "block_length": 8, "steps": 8}
    for options in (
        {"schedule": "dream", "threshold": 0.9, "alpha": 0.3},
        {"schedule": "dream_canvas", "alg": "entropy", "alg_temp": 0.4},
        {"schedule": "dream", "alg": "origin", "first_forward": "first_token"},
        {"alpha": 0.0, "alg_temp": 0.0, "threshold": 0.9, "eos": "block", "cfg_scale": 1.0},
    ):
        assert GenerationOptions.make(**steps, **options)
