"""CadLLM: confidence decides blocks, steps, threshold and the number of logits that are compared."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from cache_zoo import UsageError
from generation import GenerationOptions, GenerationOutput, Region, View, generate
from generation.strategies.cadllm import CadLLM, _Sequence
from generation.testing import StrategyCheck, strategy_checks
from models import Transformer

FIXED = {"adaptive_blocks": False, "adaptive_steps": False, "adaptive_threshold": False}
SMALL = {"min_block": 2, "max_block": 9, "initial_steps": 2, "max_steps": 8}


class EveryLogit(CadLLM):
    """Compares all logits."""

    def _width(self, of: _Sequence, region: Region, forward: int) -> int:
        return 1_000_000


ALL = f"{__name__}:EveryLogit"


def decode(model: Transformer, prompts: list[list[int]], cache: str = "none", **options: Any) -> GenerationOutput:
    given = {"strategy": ALL, "gen_length": 24, "block_length": 6, "seed": 3, **options}
    return generate(model, prompts, cache, trace=True, **given)


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_with_nothing_adaptive_it_is_vanilla(
    cache: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    rules: list[dict[str, Any]] = [{"threshold": 0.02}, {"factor": 0.98, "num_transfer_tokens": 2}]
    rules.append({"threshold": 0.02, "logits_eos_inf": True, "cfg_scale": 0.5})
    for model in tiny_models.values():
        for rule in rules:
            expected = decode(model, prompts, cache, strategy="vanilla", **rule)
            out = decode(model, prompts, cache, **FIXED, **rule)
            assert torch.equal(out.tokens, expected.tokens)
            assert (out.forwards, out.counts.rows) == (expected.forwards, expected.counts.rows)
            assert max(out.forwards) < 24, "the rule must matter"


def test_shares_of_the_steps(tiny_models: dict[str, Transformer]) -> None:
    out = decode(tiny_models["llada"], [[1, 2]], **FIXED, initial_steps=4, gen_length=12)
    assert [int(entry.committed.sum()) for entry in out.trace or []] == [2, 2, 1, 1] * 2


def test_blocks_steps_and_thresholds_follow_the_confidence(tiny_models: dict[str, Transformer]) -> None:
    """Recomputed from the confidences of the trace, which are those of all logits."""
    for model in tiny_models.values():
        seen: list[float] = []
        start = end = steps = within = 0
        out = decode(model, [[1, 2, 3]], **SMALL)
        for entry in out.trace or []:
            bounds = tuple(bound - 3 for bound in entry.bounds[0])
            if not seen or bounds[0] == end:
                mean = sum(seen[-2:]) / 2 if seen else None
                length = 6 if mean is None else min(2 + int(7 * mean), 24 - end)
                steps = 2 if mean is None else max(1, int((2 + int(6 * (1 - mean))) * length / 6))
                start, end, within = end, end + length, 0
            assert bounds == (start, end)
            confidence = entry.confidence[0, start:end]
            masks = confidence[~confidence.isneginf()]
            seen.append(float(masks.mean()))
            limit = max(0.85 * (1 - within / steps) + 0.4 * within / steps, 0.4)
            assert int(entry.committed[0, start:end].sum()) == max(1, int((masks >= limit).sum()))
            within += 1
        assert end == 24


def strategy(**own: Any) -> CadLLM:
    options = GenerationOptions.make(strategy="cadllm", gen_length=100, block_length=10, **own)
    return CadLLM(options, **options.parameters)


@pytest.mark.parametrize(
    ("start", "forward", "confidence", "tokens", "width"),
    [
        (0, 0, [], [], 800),
        (19, 0, [0.7], [], 800),
        (20, 0, [0.7], [], 70),
        (10, 4, [0.7], [], 70),  # of 4 steps, so the block of 10 counts whole
        (69, 0, [0.7], [], 70),
        (70, 0, [0.7], [], 90),
        (20, 0, [0.2], [], 105),
        (20, 0, [0.5], [], 84),
        (20, 0, [0.9], [], 56),
        (20, 0, [0.0, 0.7, 0.7, 0.7, 0.7, 0.7], [], 70),  # the last five
        (20, 0, [0.85, 0.75, 0.7], [], 91),  # falls by 0.15 over two forwards
        (20, 0, [0.7], [1, 2, 3, 4, 5, 5, 5, 5], 210),
        (20, 0, [0.7], [5, 5, 5, 5], 70),  # too few tokens to tell
        (20, 0, [0.7], [1, 2, 3, 4, 1, 2, 3, 4], 70),
        (0, 0, [0.2], [1, 2, 3, 4, 5, 5, 5, 5], 1000),
    ],
)
def test_how_many_logits_are_compared(
    start: int, forward: int, confidence: list[float], tokens: list[int], width: int
) -> None:
    of, region = _Sequence(confidence, tokens, steps=4), Region(0, start, start + 10)
    assert strategy()._width(of, region, forward) == width
    assert strategy(adaptive_top_k=False)._width(of, region, forward) == 100
    assert strategy(adaptive_top_k=False, factor=1.0)._width(of, region, forward) == 15
    assert 5 <= strategy(factor=1.0)._width(of, region, forward) <= 35


class ByBlock(CadLLM):
    """Compares 3 logits in block 0 and 5 in block 1."""

    def _width(self, of: _Sequence, region: Region, forward: int) -> int:
        return 3 + 2 * region.block


@pytest.mark.parametrize("kind", ["softmax", "entropy"])
def test_confidence_is_that_of_the_largest_logits(kind: str) -> None:
    logits = torch.randn(4, 8, generator=torch.Generator().manual_seed(5))
    logits[:, 2] = 0.1  # end of sequence, neither the best nor the worst
    live = torch.tensor([[True, False, True], [True, True, False]])
    tokens = torch.zeros(2, 3, dtype=torch.long)
    tokens[live] = logits.argmax(dim=1)
    tokens[0, 2] = logits[1].argsort(descending=True)[3]  # drawn, and not among the largest
    tokens[1, 1] = logits[3].argmin()
    regions, whole = [Region(0, 0, 3), Region(1, 0, 3)], torch.ones_like(live)
    further = {"block_step": [0, 0], "logits": logits, "left_out": None, "seeds": [0, 0], "mask_id": 99, "eos_id": 2}
    seen = View(
        live, live.float(), whole, whole, regions=regions, ids=tokens, tokens=tokens, live=live, ran=whole, **further
    )
    for own in ({}, {"logits_eos_inf": True}):
        options = GenerationOptions.make(strategy="cadllm", gen_length=3, block_length=3, **own)
        strategy = ByBlock(options, confidence=kind)
        strategy._sequences = [_Sequence(), _Sequence()]
        score = strategy._score(seen)
        for place, (b, column) in enumerate(live.nonzero().tolist()):
            row = [value for token, value in enumerate(logits[place].tolist()) if token != 2 or not own]
            share = torch.tensor(sorted(row, reverse=True)[: 3 + 2 * b], dtype=torch.double).softmax(dim=0)
            expected = 1 / (1 - (share * share.log()).sum())
            if kind == "softmax":
                of = torch.tensor(sorted(row, reverse=True)).tolist().index(float(logits[place, tokens[b, column]]))
                expected = share[of] if of < len(share) else torch.tensor(0.0)
            assert score[b, column].item() == pytest.approx(expected.item(), abs=1e-6)
        assert (score[~live] == 0).all()


def test_a_sure_block_is_committed_whole(tiny_models: dict[str, Transformer]) -> None:
    sure = {"early_exit": True, "exit_gap": 0.0, "exit_confidence": 0.0, **FIXED, "threshold": 1.0}
    for model in tiny_models.values():
        for cache in ("none", "dual"):
            for patience, steps in ((1, 1), (3, 1), (1, 15)):
                out = decode(model, [[1, 2]], cache, **sure, exit_patience=patience, initial_steps=steps)
                counts = [int(entry.committed.sum()) for entry in out.trace or []]
                # at first the forwards that tell, of which the first of a block is none, then the rest at once
                alone = 4 if steps == 15 else patience
                assert counts == [*[1] * alone, 6 - alone] * 4
            for least in ({"exit_gap": 1.0}, {"exit_confidence": 1.0}):
                out = decode(model, [[1, 2]], cache, **{**sure, **least})
                assert out.nfe == 24


def test_the_gap_is_that_of_all_positions_of_the_block(tiny_models: dict[str, Transformer]) -> None:
    model = tiny_models["llada"]
    own = {"early_exit": True, "exit_gap": 1.0, "exit_confidence": 0.0, **FIXED, "threshold": 1.0}

    class Watched(EveryLogit):
        gaps: list[float]

        def start(self, board: Any) -> None:
            super().start(board)
            Watched.of = self._sequences[0]  # type: ignore[attr-defined]

    globals()["Watched"] = Watched
    out = decode(model, [[1, 2]], strategy=f"{__name__}:Watched", gen_length=6, **own)
    expected = []
    for before, _ in list(pairwise(out.trace or []))[:]:
        ids = torch.tensor([[1, 2, *before.canvas[0].tolist()]])
        top = model.run(ids).logits[2:].softmax(dim=1).topk(2, dim=1).values
        expected.append(float((top[:, 0] - top[:, 1]).mean()))
    assert Watched.of.gaps == pytest.approx(expected, abs=1e-5)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_block": 0}, "strategy parameter 'min_block' must be at least 1, not 0"),
        ({"max_block": 3}, "strategy parameter 'max_block' must be at least 4, not 3"),
        ({"max_steps": 5}, "strategy parameter 'max_steps' must be at least 24, not 5"),
        ({"initial_steps": 2.5}, "'initial_steps' must be a whole number, not 2.5"),
        ({"exit_patience": 0}, "strategy parameter 'exit_patience' must be at least 1, not 0"),
        ({"confidence": "margin"}, "unknown strategy parameter 'confidence' 'margin'"),
        ({"steps": 8}, "steps=8 does not go with strategy 'cadllm', which has steps and confidences of its own"),
        ({"alg": "random"}, "alg=random does not go with strategy 'cadllm'"),
        ({"sigma": 3.0}, "sigma=3.0 does not go with strategy 'cadllm'"),
        ({"threshold": 0.9, "alpha": 0.3}, "alpha=0.3 does not go with strategy 'cadllm'"),
        ({"first_forward": "first_token"}, "first_forward=first_token does not go with strategy 'cadllm'"),
        ({"confidence_eos_eot_inf": True}, "confidence_eos_eot_inf=True does not go with strategy 'cadllm'"),
    ],
)
def test_wrong_parameters_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        GenerationOptions.make(**{"strategy": "cadllm", "gen_length": 32, "block_length": 8, **options})
    assert message in str(error.value)


CONTRACT = strategy_checks(
    "cadllm",
    SMALL,
    {**SMALL, "early_exit": True, "exit_gap": 0.005, "exit_confidence": 0.02, "confidence": "entropy"},
    decoders=("blocks", "threshold", "sampling", "factor"),
)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("check", CONTRACT, ids=str)
def test_the_contract_of_strategies(check: StrategyCheck) -> None:
    check()
