"""Schedules, selection, samplers and `generate`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from cache_zoo import Cache, Outcome, Step, UsageError, make_cache
from cache_zoo.methods.dual import DualCache
from generation import GenerationOptions, generate, stream
from generation.sampling import draw, keep_nucleus, propose
from generation.selection import commit_best, factor_count, quota
from models import Transformer


@pytest.mark.parametrize(
    ("gen_length", "block_length", "steps", "expected"),
    [(32, 8, 16, [2, 2, 2, 2]), (32, 8, 12, [3, 3, 2]), (32, 32, 5, [7, 7, 6, 6, 6]), (16, 8, 2, [8])],
)
def test_the_surplus_of_a_quota_goes_to_the_first_steps(
    gen_length: int, block_length: int, steps: int, expected: list[int]
) -> None:
    options = GenerationOptions(gen_length=gen_length, block_length=block_length, steps=steps)
    masks, committed = block_length, []
    for forwards in range(len(expected)):
        committed.append(quota(options, forwards, masks))
        masks -= committed[-1]
    assert committed == expected
    assert sum(expected) == block_length


@pytest.mark.parametrize(
    ("confidence", "factor", "expected"),
    [
        ([0.99, 0.98, 0.1], 0.1, 2),
        ([0.1, 0.1], 0.1, 0),
        ([0.999] * 6, 0.1, 6),
        ([0.999] * 6, 0.0045, 3),
        ([1.0, 1.0], 0.01, 2),
        ([0.95, 0.9], 0.1, 0),
    ],
)
def test_factor_is_the_exact_rule(confidence: list[float], factor: float, expected: int) -> None:
    ordered = torch.tensor([confidence + [-torch.inf] * 3])
    by_definition = [n for n in range(1, len(confidence) + 1) if (n + 1) * (1 - confidence[n - 1]) < factor]
    assert max(by_definition, default=0) == expected
    assert factor_count(ordered, factor).tolist() == [expected]


@pytest.mark.parametrize(
    ("confidence", "factor", "with_last", "without_last"),
    [
        ([0.99, 0.98, 0.1], 0.1, 3, 2),  # all but the last pass
        ([0.1, 0.1], 0.1, 2, 0),
        ([0.999] * 6, 0.1, 6, 5),  # all pass
        ([0.99, 0.1, 0.1, 0.1], 0.1, 1, 1),
        ([0.5], 0.1, 1, 0),
    ],
)
def test_factor_as_released(confidence: list[float], factor: float, with_last: int, without_last: int) -> None:
    ordered = torch.tensor([confidence + [-torch.inf] * 3])
    assert factor_count(ordered, factor, "with_last").tolist() == [with_last]
    assert factor_count(ordered, factor, "without_last").tolist() == [without_last]


def test_commit_best_takes_the_threshold_and_never_less_than_its_share() -> None:
    score = torch.tensor([[0.9, 0.5, 0.8, 0.8, 0.2], [0.1, 0.3, 0.2, 0.2, 0.99]])
    eligible = torch.tensor([[True] * 5, [True, True, True, True, False]])
    least = torch.tensor([1, 2])

    def commit(**options: Any) -> list[list[int]]:
        return commit_best(score, eligible, least, GenerationOptions(**options)).int().tolist()

    assert commit(threshold=0.8) == [[1, 0, 1, 1, 0], [0, 1, 1, 0, 0]]
    assert commit(threshold=1.1) == [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0]]
    assert commit(threshold=0.0) == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert commit(factor=0.5) == [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0]]
    assert commit() == [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0]]


def test_equal_scores_go_to_the_lowest_position() -> None:
    eligible = torch.ones(1, 300, dtype=torch.bool)
    chosen = commit_best(torch.full((1, 300), 0.5), eligible, torch.tensor([7]), GenerationOptions())
    assert chosen[0].nonzero().flatten().tolist() == list(range(7))


def test_confidences() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 3.0, 9.0, 1.0]])
    probability = logits.softmax(dim=1)

    def confidence(alg: str) -> torch.Tensor:
        return propose(logits.clone(), GenerationOptions(alg=alg), mask_id=2)[1]

    assert propose(logits.clone(), GenerationOptions(), mask_id=2)[0].tolist() == [0, 1], "[MASK] is never proposed"
    torch.testing.assert_close(confidence("maskgit_plus"), torch.stack((probability[0, 0], probability[1, 1])))
    torch.testing.assert_close(confidence("entropy"), (probability * probability.log()).sum(dim=1))
    best = probability.sort(dim=1, descending=True).values
    torch.testing.assert_close(confidence("topk_margin"), best[:, 0] - best[:, 1])


def test_nucleus_filter_keeps_what_crosses() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert keep_nucleus(logits, 0.49).isfinite().tolist() == [[True, False, False, False]]
    assert keep_nucleus(logits, 0.51).isfinite().tolist() == [[True, True, False, False]]
    assert keep_nucleus(logits, 0.01).isfinite().tolist() == [[True, False, False, False]]


def test_filters_that_leave_only_the_mask_fall_back_to_the_best_token() -> None:
    logits = torch.tensor([[1.0, 0.0, 9.0]])
    uniform = torch.tensor([0.1])
    for options in ({"top_k": 1}, {"top_p": 0.1}, {"top_k": 1, "temperature": 0.5}):
        assert propose(logits.clone(), GenerationOptions(**options), 2, uniform)[0].tolist() == [0]


def test_draws_follow_the_distribution() -> None:
    probability = torch.tensor([0.0, 0.5, 0.0, 0.2, 0.3])
    uniform = torch.linspace(0, 1, 10_001)[:-1]
    tokens = draw(probability.log().expand(10_000, 5), uniform)
    torch.testing.assert_close(tokens.bincount(minlength=5) / 10_000, probability, atol=2e-4, rtol=0)


@pytest.mark.parametrize("cache", ["none", "dual", "d2cache"])
def test_a_complete_block_costs_no_further_forward(
    cache: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    out = generate(tiny_models["llada"], prompts, cache, gen_length=16, block_length=4, threshold=0.0)
    assert out.nfe == 4


def test_threshold_above_one_is_one_per_step(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    model, options = tiny_models["llada"], {"gen_length": 16, "block_length": 8}
    slow = generate(model, prompts, threshold=1.01, **options)
    assert slow.nfe == 16
    assert torch.equal(slow.tokens, generate(model, prompts, **options).tokens)


def test_blocks_of_one_decode_from_left_to_right(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    out = generate(tiny_models["dream"], prompts[:1], gen_length=6, block_length=1, trace=True)
    assert [entry.committed[0].nonzero().item() for entry in out.trace or []] == list(range(6))


def test_a_tiny_sigma_decodes_from_left_to_right(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    out = generate(tiny_models["llada"], prompts[:1], gen_length=6, block_length=6, sigma=0.2, trace=True)
    assert [entry.committed[0].nonzero().item() for entry in out.trace or []] == list(range(6))


def test_until_eos_commits_everything_before_it_and_stops(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    model = tiny_models["llada"]
    whole = generate(model, prompts[:1], gen_length=32, block_length=None, trace=True)
    assert whole.trace is not None
    middle = whole.trace[3]
    eos = int(middle.canvas[0][middle.committed[0]][0])  # a token committed in the fourth step, as if it were EOS

    altered = Transformer(replace(model.config, eos_id=eos))
    altered.load_state_dict(model.state_dict())
    out = generate(altered, prompts[:1], gen_length=32, block_length=None, stop_until_eos=True)
    tokens = out.tokens[0].tolist()
    first = tokens.index(eos)
    assert model.config.mask_id not in tokens[:first]
    assert out.nfe < whole.nfe
    assert model.config.mask_id in tokens[first:]


def test_finished_sequences_leave_the_batch(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    out = generate(tiny_models["llada"], prompts, "dllm", gen_length=32, block_length=8, threshold=0.3, trace=True)
    assert out.trace is not None
    assert len(set(out.forwards)) > 1, "the prompts of this test must finish at different times"
    assert [len(entry.active) for entry in out.trace] == sorted((len(e.active) for e in out.trace), reverse=True)
    assert out.nfe == max(out.forwards)


def test_a_trace_has_confidences_blocks_and_seconds(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    options = {"gen_length": 16, "block_length": 4, "threshold": 0.3}
    seen: list[tuple[Step, Outcome]] = []

    class Watched(DualCache):
        def end_step(self, step: Step, outcome: Outcome) -> None:
            seen.append((step, outcome))

    out = generate(tiny_models["dream"], prompts, Watched(), trace=True, **options)
    assert out.trace is not None
    for entry, (step, outcome) in zip(out.trace, seen, strict=True):
        assert entry.seconds > 0
        assert entry.blocks == step.block_index
        generated = slice(step.canvas.prompt_length, None)
        assert torch.equal(entry.confidence[entry.active].isfinite(), outcome.live[:, generated])
        assert torch.equal(entry.confidence[entry.active], outcome.confidence[:, generated])
        assert entry.confidence[entry.committed].isfinite().all()
        others = [number for number in range(len(prompts)) if number not in entry.active]
        assert (entry.confidence[others] == -torch.inf).all()


def test_seeds(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    def sample(seed: Any) -> torch.Tensor:
        options = {"gen_length": 8, "block_length": 4, "temperature": 1.5}
        return generate(tiny_models["llada"], [prompts[0]] * 2, seed=seed, **options).tokens

    assert torch.equal(sample(5), sample(5))
    assert torch.equal(sample(5), sample([5, 6]))
    assert not torch.equal(sample(5), sample(9))
    assert torch.equal(*sample([4, 4]))
    with pytest.raises(UsageError, match="seed has 3 entries for 2 prompts"):
        sample([1, 2, 3])


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_a_stream_goes_where_generate_goes(
    family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    model, options = tiny_models[family], {"gen_length": 8, "block_length": 4, "threshold": 0.3}
    expected = generate(model, prompts, "dual", trace=True, **options)
    seen = list(stream(model, prompts, "dual", **options))
    assert expected.trace is not None
    assert len(seen) == len(expected.trace)
    for progress, step in zip(seen, expected.trace, strict=True):
        assert torch.equal(progress.tokens, step.canvas)
        assert torch.equal(progress.committed, step.committed)
        assert sorted(progress.regions) == step.active
    assert torch.equal(seen[-1].tokens, expected.tokens)
    assert seen[-1].counts == expected.counts
    assert [progress.counts.forwards for progress in seen] == list(range(1, len(seen) + 1))
    assert {0, 1} == {region.block for progress in seen for region in progress.regions.values()}


def test_two_streams_do_not_disturb_each_other(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    model, options = tiny_models["llada"], {"gen_length": 8, "block_length": 4}
    one, other = stream(model, prompts[:1], "dual", **options), stream(model, prompts[1:2], **options)
    last = [(first, second) for first, second in zip(one, other, strict=True)][-1]
    assert torch.equal(last[0].tokens, generate(model, prompts[:1], "dual", **options).tokens)
    assert torch.equal(last[1].tokens, generate(model, prompts[1:2], **options).tokens)


def test_a_stream_refuses_at_once_what_generate_refuses(tiny_models: dict[str, Transformer]) -> None:
    with pytest.raises(UsageError, match="prompt 0 is empty"):
        stream(tiny_models["llada"], [[]])
    with pytest.warns(UserWarning, match="needs blocks") as caught:
        stream(tiny_models["llada"], [[1]], "dual", gen_length=8, block_length=8)
    assert caught[0].filename == __file__


def test_a_cache_that_starves_the_decoder_is_named(
    tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    class Starving(Cache):
        def rows(self, step: Step) -> torch.Tensor | None:
            return None if step.index == 0 else step.canvas.valid & ~step.block

    with pytest.raises(RuntimeError, match="Starving ran no row"):
        generate(tiny_models["llada"], prompts[:1], Starving(), gen_length=8, block_length=4)


@pytest.mark.slow
@pytest.mark.parametrize("family", [pytest.param("llada", marks=pytest.mark.slow), "dream"])
def test_d2cache_feeds_the_decoder_when_the_text_ends_inside_a_block(
    family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    """With one candidate, the best one may lie behind the end of the text, where nothing is committed."""
    model, options = tiny_models[family], {"gen_length": 16, "block_length": 16, "stop_until_eos": True}

    def cache() -> Cache:
        return make_cache("d2cache", current_k=1, inflate_w=0)

    whole = generate(model, prompts, cache(), gen_length=16, block_length=16)
    ended_early = 0
    for eos in whole.tokens.unique().tolist()[::3]:
        altered = Transformer(replace(model.config, eos_id=eos))
        altered.load_state_dict(model.state_dict())
        out = generate(altered, prompts, cache(), **options)
        for number, prompt in enumerate(prompts):
            tokens = out.tokens[number].tolist()
            text = tokens[: tokens.index(eos)] if eos in tokens else tokens
            assert model.config.mask_id not in text
            ended_early += out.forwards[number] < 16
            assert generate(altered, [prompt], cache(), **options).tokens[0].tolist() == tokens
    assert ended_early > 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gen_length": 0}, "gen_length must be at least 1, not 0"),
        ({"block_length": 12}, "block_length 12 does not divide gen_length 32; the nearest that does is 8"),
        ({"block_length": 64}, "does not divide"),
        ({"steps": 9}, "steps 9 is not divisible by the 4 blocks; the nearest multiple is 8"),
        ({"steps": 64}, "steps must lie between the number of blocks"),
        ({"steps": 8, "num_transfer_tokens": 2}, "two schedules"),
        ({"threshold": 0.9, "factor": 1.0}, "two rules for the same choice"),
        ({"treshold": 0.9}, "unknown generation option 'treshold': did you mean 'threshold'?"),
        ({"alg": "entropi"}, "unknown alg 'entropi': did you mean 'entropy'?"),
        ({"alg": "entropy", "threshold": 0.9}, "can never be reached"),
        ({"strategy": "vanila"}, "unknown strategy 'vanila': did you mean 'vanilla'?"),
        ({"temperature": -1.0}, "temperature must not be negative"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"factor": 0.0}, "factor must be above 0"),
        ({"sigma": -1.0}, "sigma must not be negative"),
        ({"gen_length": "128"}, "gen_length must be a whole number, not '128'"),
        ({"num_transfer_tokens": True}, "num_transfer_tokens must be a whole number, not True"),
        ({"num_transfer_tokens": 0}, "num_transfer_tokens must be at least 1"),
        ({"stop_until_eos": 1}, "stop_until_eos must be true or false, not 1"),
        ({"logits_eos_inf": "yes"}, "logits_eos_inf must be true or false, not 'yes'"),
        ({"confidence_eos_eot_inf": True, "alg": "entropy"}, "alg=entropy has another one"),
    ],
)
def test_bad_options_are_named(
    options: dict[str, Any], message: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        generate(tiny_models["llada"], prompts, **{"gen_length": 32, "block_length": 8, **options})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "there are no prompts"),
        ([[1, 2], []], "prompt 1 is empty"),
        ([[1] * 9000], "prompt 0 has 9000 tokens; with gen_length 8 that is more than the context of 8192"),
        ([[1, 260]], r"prompt 0 has token ids outside the vocabulary of 260: \[260\]"),
        ([[-1]], "outside the vocabulary"),
    ],
)
def test_bad_prompts_are_named(bad: list[list[int]], message: str, tiny_models: dict[str, Transformer]) -> None:
    with pytest.raises(UsageError, match=message):
        generate(tiny_models["llada"], bad, gen_length=8, block_length=4)


@pytest.mark.parametrize("name", ["prefix", "dual"])
def test_a_cache_without_blocks_warns(name: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    with pytest.warns(UserWarning, match="needs blocks: block_length 8 is the whole gen_length 8; .* such as 4"):
        generate(tiny_models["llada"], prompts, name, gen_length=8, block_length=8)


def _with_ends(model: Transformer, eos: int, eot: int | None) -> Transformer:
    """The same weights with other end tokens."""
    altered = Transformer(replace(model.config, eos_id=eos, eot_id=eot))
    altered.load_state_dict(model.state_dict())
    return altered


def _llada_by_hand(
    model: Transformer, prompt: list[int], length: int, logits_eos: bool, confidence_ends: bool
) -> tuple[list[int], list[int]]:
    """LLaDA's loop for one prompt at temperature 0, one token per forward: the tokens and the order of positions."""
    config, tokens, order = model.config, [model.config.mask_id] * length, []
    while config.mask_id in tokens:
        logits = model.run(torch.tensor([prompt + tokens])).logits
        predicting = torch.arange(len(prompt), len(prompt) + length) - config.shift
        logits = logits[predicting].clone()
        if logits_eos:
            logits[:, config.eos_id] = -torch.inf
        proposal = logits.clone()
        proposal[:, config.mask_id] = -torch.inf
        best = proposal.argmax(dim=1)
        if confidence_ends:
            logits[:, [end for end in (config.eos_id, config.eot_id) if end is not None]] = -torch.inf
        confidence = logits.softmax(dim=1)[torch.arange(length), best]
        confidence[torch.tensor(tokens) != config.mask_id] = -1
        place = int(confidence.argmax())
        tokens[place] = int(best[place])
        order.append(place)
    return tokens, order


@pytest.mark.parametrize("eot", [True, False])
@pytest.mark.parametrize(("logits_eos", "confidence_ends"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_the_eos_options_are_lladas_rule(
    family: str,
    logits_eos: bool,
    confidence_ends: bool,
    eot: bool,
    tiny_models: dict[str, Transformer],
    prompts: list[list[int]],
) -> None:
    options = {"gen_length": 12, "block_length": None}
    plain = generate(tiny_models[family], prompts[:1], **options).tokens[0]
    frequent = plain.bincount().argsort(descending=True).tolist()  # as ends they change what is decoded
    model = _with_ends(tiny_models[family], frequent[0], frequent[1] if eot else None)
    out = generate(
        model,
        prompts[:1],
        logits_eos_inf=logits_eos,
        confidence_eos_eot_inf=confidence_ends,
        trace=True,
        **options,
    )
    assert out.trace is not None
    tokens, order = _llada_by_hand(model, prompts[0], 12, logits_eos, confidence_ends)
    assert out.tokens[0].tolist() == tokens
    assert [int(entry.committed[0].nonzero()) for entry in out.trace] == order
    assert tokens != plain.tolist()
    assert not logits_eos or frequent[0] not in tokens


def test_eos_options_by_hand() -> None:
    """Tokens 0: end of sequence, 1: end of turn, 2: [MASK], 3 and 4: text."""
    logits = torch.tensor([[3.0, 0.0, 1.0, 2.0, 0.0], [0.0, 3.0, 1.0, 2.0, 0.0], [1.0, 1.0, 1.0, 2.0, 0.0]])

    def call(**options: Any) -> tuple[list[int], torch.Tensor]:
        uniform = torch.full((3,), 0.999)
        tokens, values = propose(logits.clone(), GenerationOptions(**options), 2, uniform, eos_id=0, eot_id=1)
        return tokens.tolist(), values

    text = logits[:, 2:].softmax(dim=1)[:, 1]  # the share of token 3 among [MASK] and text
    tokens, values = call(confidence_eos_eot_inf=True)
    assert tokens == [0, 1, 3]
    torch.testing.assert_close(values, torch.stack((torch.tensor(0.0), torch.tensor(0.0), text[2])))
    tokens, values = call(logits_eos_inf=True)
    assert tokens == [3, 1, 3]
    torch.testing.assert_close(values, logits[:, 1:].softmax(dim=1)[[0, 1, 2], [2, 0, 2]])
    tokens, values = call(confidence_eos_eot_inf=True, top_k=1)
    assert (tokens, values.tolist()) == ([0, 1, 3], [0.0, 0.0, 1.0])
    for temperature in (0.5, 1.0):  # deviates from the script, which leaves end of sequence its confidence
        drawn = call(confidence_eos_eot_inf=True, temperature=temperature, top_k=1)
        assert (drawn[0], drawn[1].tolist()) == ([0, 1, 3], [0.0, 0.0, 1.0])
