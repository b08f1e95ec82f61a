"""dInfer's decoders: the best of every run of masks, and credit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from cache_zoo import UsageError
from generation import GenerationOptions, generate
from generation.strategies.credit import Credit
from generation.strategies.hierarchy import best_of_runs
from generation.strategies.strategy import Board, Edit, Region, View
from generation.testing import StrategyCheck, strategy_checks
from models import Transformer
from tests.conformance.injected import RefreshedPrefix
from tests.test_strategies import Game, committed

SHORT = {"gen_length": 16, "block_length": 8}


def test_the_best_of_each_run_by_hand() -> None:
    places = torch.tensor([[1, 1, 0, 1, 0, 1, 1, 1], [0, 1, 1, 0, 0, 0, 0, 0], [0] * 8, [1] * 8]).bool()
    score = torch.tensor(
        [
            [0.2, 0.3, 0.9, 0.1, 0.8, 0.5, 0.7, 0.7],
            [0.9, 0.4, 0.4, 0.9, 0.1, 0.1, 0.1, 0.1],
            [0.5] * 8,
            [-torch.inf] * 8,
        ]
    )
    expected = [[1, 3, 6], [1], [], [0]]
    assert [row.nonzero().flatten().tolist() for row in best_of_runs(score, places)] == expected


def test_the_hierarchy_by_hand() -> None:
    confidence = [0.5, 0.6, 0.95, 0.45, 0.41, 0.2, 0.3, 0.1]
    options = {"strategy": "hierarchy", "gen_length": 8, "block_length": 8, "threshold": 0.9}

    def play(**own: Any) -> list[list[int]]:
        game = Game([1], **options, **own)
        game.confidence = lambda: torch.tensor([confidence])  # type: ignore[method-assign]
        return committed(game)

    # one run: its best; then two runs, 0.6 and 0.45; then 0.5, and 0.41; below 0.4 one at a time
    assert play(low=0.4) == [[2], [1, 3], [0, 4], [6], [5], [7]]
    assert play(low=0.1) == [[2], [1, 3], [0, 4], [6], [5], [7]]  # strictly above
    assert play(low=0.09) == [[2], [1, 3], [0, 4], [6], [5, 7]]
    assert play(low=1.0) == [[2], [1], [0], [3], [4], [6], [5], [7]]
    assert play(low=0.4, num_transfer_tokens=2)[:2] == [[1, 2], [0, 3]]


def test_a_low_that_nothing_reaches_is_the_threshold(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    model, options = tiny_models["dream"], {**SHORT, "threshold": 0.3}
    expected = generate(model, prompts, **options)
    out = generate(model, prompts, **options, strategy="hierarchy", low=1.0)
    assert torch.equal(out.tokens, expected.tokens)
    assert generate(model, prompts, **options, strategy="hierarchy", low=0.0).nfe < expected.nfe


@pytest.mark.parametrize("family", ["llada", "dream"])
@pytest.mark.parametrize("rule", [{"threshold": 0.35}, {"num_transfer_tokens": 2}, {"gamma": 6.0}], ids=str)
def test_without_credit_only_the_options_decide(
    rule: dict[str, Any], family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    model = tiny_models[family]
    expected = generate(model, prompts, **SHORT, **rule)
    out = generate(model, prompts, **SHORT, **rule, strategy="credit", credit_alpha=0.0)
    assert torch.equal(out.tokens, expected.tokens)
    assert out.forwards == expected.forwards
    changed = generate(model, prompts, **SHORT, **rule, strategy="credit", credit_alpha=20.0)
    assert not torch.equal(changed.tokens, expected.tokens)


def credit_view(logits: list[list[float]], block: int) -> View:
    """One sequence of two masks; token 3 is [MASK]."""
    mask = torch.ones(1, len(logits), dtype=torch.bool)
    return View(
        eligible=mask,
        confidence=torch.zeros(mask.shape),
        masked=mask,
        open=mask,
        block_step=[0],
        regions=[Region(block, 0, 2)],
        ids=torch.full(mask.shape, 3),
        tokens=torch.zeros_like(mask, dtype=torch.long),
        live=mask,
        ran=mask,
        logits=torch.tensor(logits),
        left_out=None,
        seeds=[0],
        mask_id=3,
        eos_id=2,
    )


def test_credit_by_hand() -> None:
    options = GenerationOptions(gen_length=2, block_length=2, threshold=2.0)
    strategy = Credit(options, credit_alpha=0.5, boost_gamma=2.0, decay_beta=0.25)
    mask = torch.ones(1, 2, dtype=torch.bool)
    strategy.start(Board(mask.long(), mask, mask, None, [0], [0]))
    strategy._least = [1]
    first = [[2.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 4.0]]  # of the second the best is [MASK], so 1 gains
    gains = [torch.tensor(row).softmax(dim=0)[token] ** 2 for row, token in zip(first, (0, 1), strict=True)]
    decision = strategy.decide(credit_view(first, 0))
    assert isinstance(decision, Edit)
    assert decision.ids.tolist() == [[0, 3]]
    second = [[1.0, 1.0 + 1e-4, 0.0, 0.0], [0.0, 1.0, 0.0, -9.0]]
    strategy.decide(credit_view(second, 0))
    assert strategy._credit is not None
    again = [torch.tensor(row).softmax(dim=0)[1] ** 2 for row in second]
    expected = torch.zeros(2, 4)
    expected[0, 0], expected[0, 1], expected[1, 1] = gains[0] / 4, again[0], gains[1] / 4 + again[1]
    torch.testing.assert_close(strategy._credit.values, expected)
    # the token is that of the fused logits: 0 wins through its credit where 1 is just ahead
    strategy = Credit(options, credit_alpha=0.5, boost_gamma=0.0, decay_beta=1.0)
    strategy.start(Board(mask.long(), mask, mask, None, [0], [0]))
    strategy._least = [2]
    for _ in range(3):
        strategy.decide(credit_view(first, 0))
    decision = strategy.decide(credit_view([second[0], second[0]], 0))
    assert isinstance(decision, Edit)
    assert decision.ids.tolist() == [[0, 1]]
    strategy.decide(credit_view(first, 1))
    assert strategy._credit is not None
    assert strategy._credit.values.sum() == 2  # a new block begins with none
    strategy = Credit(replace(options, logits_eos_inf=True), boost_gamma=0.0)
    strategy.start(Board(mask.long(), mask, mask, None, [0], [0]))
    strategy.decide(credit_view([[0.0, 1.0, 2.0, 0.0]] * 2, 0))
    assert strategy._credit is not None
    assert strategy._credit.values.tolist() == [[0.0, 1.0, 0.0, 0.0]] * 2  # not the excluded end


def test_a_later_request_has_no_credit(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    model = tiny_models["llada"]
    options = GenerationOptions.make(**SHORT, strategy="credit", credit_alpha=20.0)
    strategy = Credit(options, credit_alpha=20.0)
    mask = torch.ones(1, 2, dtype=torch.bool)
    board = Board(mask.long(), mask, mask, None, [0], [0])
    strategy.start(board)
    strategy._least = [1]
    strategy.decide(credit_view([[2.0, 1.0, 0.0, 0.0]] * 2, 0))
    strategy.start(board)
    assert strategy._credit is None
    one = generate(model, prompts[:1], **options.as_keywords())
    assert torch.equal(one.tokens, generate(model, prompts[:1], **options.as_keywords()).tokens)


def test_credit_never_proposes_an_end_that_is_excluded(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    model, credit = tiny_models["llada"], {"strategy": "credit", "credit_alpha": 20.0, "threshold": 0.5}
    plain = generate(model, prompts[:1], **SHORT, **credit).tokens[0]
    altered = Transformer(replace(model.config, eos_id=int(plain.mode().values)))
    altered.load_state_dict(model.state_dict())
    out = generate(altered, prompts[:1], **SHORT, **credit, logits_eos_inf=True)
    assert altered.config.eos_id in plain
    assert altered.config.eos_id not in out.tokens


def test_iterations_refresh(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    """Which forwards of a replay run all rows where dInfer refreshes every second iteration."""
    cache = RefreshedPrefix(every=2, use_dual=True)
    trace = generate(tiny_models["llada"], prompts[:1], cache, **SHORT, trace=True).trace
    assert trace is not None
    kinds = "".join("F" if len(entry.layer_rows[0][0]) > 8 else "c" for entry in trace)
    assert kinds == "FccFccFc" + "FcFccFcc"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "hierarchy", "low": 1.5}, "strategy parameter 'low' must be between 0 and 1, not 1.5"),
        ({"strategy": "hierarchy", "alg": "entropy"}, "does not go with strategy 'hierarchy'"),
        ({"strategy": "hierarchy", "alg": "ar"}, "alg=ar does not go with"),
        ({"strategy": "credit", "credit_alpha": -1.0}, "'credit_alpha' must not be negative, not -1.0"),
        ({"strategy": "credit", "boost_gamma": -1.0}, "'boost_gamma' must not be negative, not -1.0"),
        ({"strategy": "credit", "decay_beta": 1.1}, "'decay_beta' must be between 0 and 1, not 1.1"),
        ({"strategy": "credit", "confidence_eos_eot_inf": True}, "confidence_eos_eot_inf=True does not go with"),
    ],
)
def test_wrong_parameters_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        GenerationOptions.make(**SHORT, **options)
    assert message in str(error.value)


CONTRACT = [
    *strategy_checks("hierarchy", {"low": 0.05}, decoders=["threshold", "sampling", "until-eos"]),
    *strategy_checks("credit", {"credit_alpha": 5.0}, decoders=["threshold", "sampling", "guided", "random-order"]),
]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("check", CONTRACT, ids=str)
def test_the_contract_of_strategies(check: StrategyCheck) -> None:
    check()
