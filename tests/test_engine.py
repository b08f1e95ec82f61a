"""The engine: what strategies may ask of it and do, what attention accepts, and mistakes that are errors."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from cache_zoo import AttentionBlock, Cache, Canvas, Columns, KVCache, Outcome, Step, Suffix, UsageError
from generation import Board, Edit, GenerationOptions, GenerationOutput, Plan, Region, Strategy, View, generate
from generation.end_of_text import EndOfText
from models import Transformer, load_model
from models.tiny import SMALLEST, make_tiny

PROMPTS = [[5, 9, 12, 7, 3, 30, 41, 8, 11, 2, 6], [4, 8, 15, 16, 23], [42, 10, 20, 30, 40, 50, 60, 70]]
LENGTH = 12


def decode(model: Transformer, strategy: type[Strategy], cache: Cache | str | None = None, **given: Any) -> Any:
    options = {"gen_length": LENGTH, "block_length": 4, "strategy": f"{__name__}:{strategy.__name__}", **given}
    return generate(model, options.pop("prompts", PROMPTS), cache, trace=True, **options)


class Best(Strategy):
    """Commits the most confident position."""

    def commit(self, view: View) -> Tensor:
        score = view.confidence.masked_fill(~view.eligible, -torch.inf)
        return view.eligible & (score == score.amax(dim=1, keepdim=True))


class Revoking(Best):
    """Takes the first token back once, four forwards later, and puts another one in its place at the end."""

    @property
    def most_forwards(self) -> int:
        return LENGTH + 1

    def start(self, board: Board) -> None:
        self.forwards = 0

    def decide(self, view: View) -> Tensor | Edit:
        self.forwards += 1
        commit = self.commit(view)
        if self.forwards != 4:
            return commit
        ids = torch.where(commit, view.tokens, view.ids)
        ids[:, 0] = view.mask_id
        ids[:, 1] = 77
        return Edit(ids)


@pytest.mark.parametrize("cache", [None, "prefix", "dual", "dllm", "d2cache"])
def test_an_edit_revokes_and_replaces_tokens(cache: str | None, tiny_models: dict[str, Transformer]) -> None:
    seen: list[Outcome] = []

    class Watching(KVCache):
        def end_step(self, step: Step, outcome: Outcome) -> None:
            seen.append(outcome)

    for family, model in tiny_models.items():
        out = decode(model, Revoking, cache)
        assert (out.tokens != model.config.mask_id).all(), family
        for number, prompt in enumerate(PROMPTS):
            alone = decode(model, Revoking, cache, prompts=[prompt])
            assert torch.equal(alone.tokens[0], out.tokens[number]), family
        seen.clear()
        decode(model, Revoking, Watching())
        fourth = seen[3]
        assert fourth.revoked is not None
        start = max(map(len, PROMPTS))
        assert fourth.committed[:, start + 1].all(), "a token in place of another one is a commit"
        assert torch.equal(fourth.changed, fourth.committed | fourth.revoked)
        assert fourth.revoked.nonzero()[:, 1].unique().tolist() == [start]


class Growing(Best):
    """Begins with one block, inserts two masks at its front after two forwards, and stops at eight columns."""

    def start(self, board: Board) -> None:
        self.lengths = [4] * board.masked.shape[0]
        self.forwards = 0

    def plan(self, board: Board) -> Plan:
        regions = []
        for b, length in enumerate(self.lengths):
            left = bool(board.masked[b, :length].any())
            regions.append(Region(0, 0, length) if left else None)
        return Plan(regions, lengths=self.lengths)

    def decide(self, view: View) -> Tensor | Edit:
        self.forwards += 1
        commit = self.commit(view)
        if self.forwards != 2:
            return commit
        ids = torch.where(commit, view.tokens, view.ids).roll(2, dims=1)
        ids[:, :2] = view.mask_id
        self.lengths = [length + 2 for length in self.lengths]
        return Edit(ids)

    def drop_finished(self, kept: Tensor) -> None:
        self.lengths = [self.lengths[b] for b in kept.tolist()]


@pytest.mark.parametrize("cache", [None, "prefix", "dllm", "d2cache"])
def test_the_canvas_grows_by_an_insertion(cache: str | None, tiny_models: dict[str, Transformer]) -> None:
    for model in tiny_models.values():
        out = decode(model, Growing, cache)
        assert (out.tokens[:, :6] != model.config.mask_id).all()
        assert (out.tokens[:, 6:] == model.config.mask_id).all(), "columns that never existed"
        assert [entry.visible for entry in out.trace][:3] == [[len(p) + n for p in PROMPTS] for n in (4, 4, 6)]
        for number, prompt in enumerate(PROMPTS):
            alone = decode(model, Growing, cache, prompts=[prompt])
            assert torch.equal(alone.tokens[0], out.tokens[number])


class Stopping(Best):
    """Fills every mask with the proposed token at the third forward and stops."""

    def start(self, board: Board) -> None:
        self.forwards = 0

    def plan(self, board: Board) -> Plan:
        plan = super().plan(board)
        if self.forwards == 3:
            return Plan([None] * len(plan.regions))
        return Plan(plan.regions, logits=board.masked)

    def decide(self, view: View) -> Tensor | Edit:
        self.forwards += 1
        if self.forwards < 3:
            return self.commit(view)
        assert torch.equal(view.live, view.masked), "the logits of all masks were asked for"
        return Edit(view.tokens)


def test_a_strategy_fills_all_masks_and_stops(tiny_models: dict[str, Transformer]) -> None:
    for model in tiny_models.values():
        out = decode(model, Stopping)
        assert out.nfe == 3
        assert (out.tokens != model.config.mask_id).all()


class LongFirst(Best):
    """Chooses a block's end from the logits of its first forward: behind the most confident of the next 6 columns."""

    def start(self, board: Board) -> None:
        self.region = Region(0, 0, 6)
        self.chosen = False

    def plan(self, board: Board) -> Plan:
        if not board.masked[0].any():
            return Plan([None])
        if not board.open[0, : self.region.end].any():
            self.chosen = False
            self.region = Region(self.region.block + 1, self.region.end, min(self.region.end + 6, LENGTH))
        return Plan([self.region])

    def commit(self, view: View) -> Tensor:
        if not self.chosen:
            self.chosen = True
            best = int(view.confidence[0].masked_fill(~view.eligible[0], -1).argmax())
            self.region = self.region._replace(end=best + 1)
        return super().commit(view)


class Noting(KVCache):
    """Notes block, forwards in it and bounds of each forward."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, tuple[int, int]]] = []

    def rows(self, step: Step) -> None:
        self.steps.append((step.block_index[0], step.block_step[0], step.bounds[0]))


def test_a_region_ends_where_its_first_logits_say(tiny_models: dict[str, Transformer]) -> None:
    for model in tiny_models.values():
        noting = Noting()
        out = decode(model, LongFirst, noting, prompts=PROMPTS[:1])
        assert (out.tokens != model.config.mask_id).all()
        start = len(PROMPTS[0])
        for (block, forwards, bounds), (later, more, then) in pairwise(noting.steps):
            assert (later, more) in ((block, forwards + 1), (block + 1, 0))
            assert then[0] == bounds[0] if later == block else bounds[0] < then[0] <= bounds[1]
        assert noting.steps[0][2] == (start, start + 6)


class Looking(Best):
    """Uses everything that a view offers."""

    needs_logits = True

    def commit(self, view: View) -> Tensor:
        probability, ids = view.top(2)
        live = view.live
        assert torch.allclose(probability[live][:, 0], view.confidence[live], atol=1e-6)
        assert torch.equal(ids[live][:, 0], view.tokens[live])
        assert (view.entropy()[live] > 0).all()
        assert (view.entropy()[~live] == 0).all()
        assert torch.equal(view.ids == view.mask_id, view.masked)
        assert [region.end - region.start for region in view.regions] == [4] * len(view.regions)
        return super().commit(view)


def test_a_view_shows_logits_tokens_and_rows(tiny_models: dict[str, Transformer]) -> None:
    decode(tiny_models["llada"], Looking)


class Patient(Best):
    """Commits in every third forward."""

    patience = 3

    def start(self, board: Board) -> None:
        self.forwards = 0

    def commit(self, view: View) -> Tensor:
        self.forwards += 1
        return super().commit(view) & (self.forwards % 3 == 0)


class Impatient(Patient):
    """The same, without saying so."""

    patience = 2


def test_a_strategy_may_idle_as_long_as_it_says(tiny_models: dict[str, Transformer]) -> None:
    out = decode(tiny_models["llada"], Patient, prompts=PROMPTS[:1])
    assert out.nfe == 3 * LENGTH
    with pytest.raises(RuntimeError, match=r"Impatient committed none of the positions.*2 forwards in a row"):
        decode(tiny_models["llada"], Impatient)


class Blind(KVCache):
    """Runs only the prompt after the first forward."""

    def rows(self, step: Step) -> Tensor | None:
        return step.canvas.valid & (step.canvas.columns < step.canvas.prompt_length - 1)


def test_a_cache_that_runs_nothing_useful_is_named(tiny_models: dict[str, Transformer]) -> None:
    with pytest.raises(RuntimeError, match="Blind ran no row that predicts a masked position of block 0 of sequence 0"):
        decode(tiny_models["llada"], Best, Blind())


class Greedy(Best):
    """Commits what it may not."""

    def commit(self, view: View) -> Tensor:
        return view.masked


class IndexBest(Best):
    def commit(self, view: View) -> Tensor:
        return super().commit(view).nonzero()


class Scribbling(Best):
    def commit(self, view: View) -> Tensor:
        view.ids[:, -1] = 0
        return super().commit(view)


class Unfinished(Strategy):
    pass


class Undecided(Best):
    """Takes back everything that was there before."""

    def decide(self, view: View) -> Edit:
        return Edit(torch.where(self.commit(view), view.tokens, view.mask_id))


class Uncounted(Best):
    """Has a rule of its own."""

    counted = False


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Greedy, "Greedy committed positions that are not eligible"),
        (IndexBest, r"IndexBest must return a BoolTensor \[3, 12\], not torch.int64"),
        (Scribbling, "Scribbling wrote into the tensors of a step or a view"),
        (Unfinished, "Unfinished overrides neither"),
        (Undecided, "Undecided has not finished sequence 0 after 12 forwards, its most_forwards"),
    ],
)
def test_mistakes_of_strategies_are_errors(
    strategy: type[Strategy], message: str, tiny_models: dict[str, Transformer]
) -> None:
    with pytest.raises((RuntimeError, TypeError), match=message):
        decode(tiny_models["llada"], strategy)


def test_a_strategy_may_say_that_it_counts_nothing() -> None:
    options = GenerationOptions.make()
    assert (Best(options).counted, Uncounted(options).counted) == (True, False)
    assert not Best(GenerationOptions.make(threshold=0.9)).counted


class ByIndex(KVCache):
    def rows(self, step: Step) -> Tensor:
        return step.block.nonzero()


class Painting(KVCache):
    def rows(self, step: Step) -> None:
        step.masked[:, -1] = False


class Unstarted(KVCache):
    def start(self, canvas: Canvas) -> None:
        self.canvas = canvas


class Eager(KVCache):
    """Reads before it writes."""

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        self.store.read(layer, step.columns)
        return super().attention(layer, x, attn, step)


class Misplaced(KVCache):
    """Gives keys in another layout than that of the step."""

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        query, key, value = attn.project(attn.norm(x), step.rows)
        keys, values = step.rows.scatter(key)[:, 1:], step.rows.scatter(value)[:, 1:]
        return attn.output(attn.attend(query, step.rows, keys, values))


@pytest.mark.parametrize(
    ("cache", "message"),
    [
        (ByIndex, r"ByIndex.rows must return a BoolTensor \[3, 23\] or None, not torch.int64"),
        (Painting, "Painting or Best wrote into the tensors of a step or a view"),
        (Unstarted, r"Unstarted.start must call super\(\).start\(canvas\) first"),
        (Eager, "the store holds no keys and values of layer 0"),
        (Misplaced, "there are 22 keys for the 23 columns of the step"),
    ],
)
def test_mistakes_of_caches_are_errors(cache: type[Cache], message: str, tiny_models: dict[str, Transformer]) -> None:
    with pytest.raises((RuntimeError, TypeError, ValueError), match=message):
        decode(tiny_models["llada"], Best, cache())


class Foreseeing(KVCache):
    needs_planned = True


def test_a_cache_that_must_know_is_refused_where_nobody_knows(tiny_models: dict[str, Transformer]) -> None:
    with pytest.raises(UsageError, match=r"Foreseeing must know.* and Best decides afterwards; choose another cache$"):
        decode(tiny_models["llada"], Best, Foreseeing())
    for given in ({"threshold": 0.9}, {"alg": "entropy"}):
        with pytest.raises(UsageError, match=r"Vanilla decides afterwards with these options; alg=random without"):
            generate(tiny_models["llada"], PROMPTS, Foreseeing(), **given)


class Masking(KVCache):
    """Attends to every second column, with the others filled with NaN, by the mask named."""

    def __init__(self, form: str) -> None:
        self.form = form
        self.pairs: list[float] = []

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        rows, canvas = step.rows, step.canvas
        query, key, value = attn.project(attn.norm(x), rows)
        self.store.write(layer, rows, key, value)
        keys, values = self.store.read(layer, step.columns)
        mask = canvas.valid & (canvas.columns % 2 == 0)
        if self.form == "gathered":
            columns = Columns.from_mask(mask)
            mixed = attn.attend(
                query, rows, columns.gather(keys), columns.gather(values), mask=self.all(columns), counts=columns.counts
            )
            return attn.output(mixed)
        hidden = ~mask[:, :, None, None]
        keys, values = keys.masked_fill(hidden, torch.nan), values.masked_fill(hidden, torch.nan)
        shapes = {
            "columns": mask,
            "key heads": mask[:, None].expand(-1, canvas.num_kv_heads, -1),
            "rows": mask[:, None, None].expand(-1, canvas.num_heads, rows.width, -1),
        }
        before = sum(step.work.pairs)
        mixed = attn.attend(query, rows, keys, values, mask=shapes[self.form])
        self.pairs.append(sum(step.work.pairs) - before)
        expected = sum(ran * int(seen) for ran, seen in zip(rows.counts, mask.sum(dim=1), strict=True))
        assert self.pairs[-1] == expected
        return attn.output(mixed)

    @staticmethod
    def all(columns: Columns) -> Tensor:
        assert columns.index is not None
        return torch.ones_like(columns.index, dtype=torch.bool) if columns.mask is None else columns.mask


def test_hidden_keys_are_left_out_whatever_they_hold(tiny_models: dict[str, Transformer]) -> None:
    for model in tiny_models.values():
        outs = [decode(model, Best, Masking(form)) for form in ("gathered", "columns", "key heads", "rows")]
        for out in outs[1:]:
            assert torch.equal(out.tokens, outs[0].tokens)
            assert out.counts.keys == outs[0].counts.keys
            assert out.counts.flops == outs[0].counts.flops


class Tapping(KVCache):
    """Compares the taps of attention with each other."""

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        rows = step.rows
        h = attn.norm(x)
        query, key, value = attn.project(h, rows)
        assert torch.allclose(attn.query(h, rows), query, atol=1e-5)
        parts = (*attn.query_key(h, rows), *attn.key_value(h, rows))
        for ours, theirs in zip(parts, (query, key, key, value), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)
        self.store.write(layer, rows, key, value)
        keys, values = self.store.read(layer, step.columns)
        mixed, mean = attn.attend_observed(query, rows, keys, values)
        weights = attn.weights(query, rows, keys)
        assert weights.shape == (len(rows), step.canvas.num_heads, keys.shape[1])
        assert torch.allclose(weights.sum(dim=2), torch.ones(len(rows), step.canvas.num_heads))
        assert torch.allclose(rows.unpad(step.columns.scatter(rows.pad(weights.mean(dim=1)))), mean, atol=1e-6)
        assert torch.allclose(attn.attend(query, rows, keys, values), mixed, atol=1e-4)
        return attn.output(mixed)


class Near(Suffix):
    def visible(self, step: Step) -> Tensor:
        return step.canvas.columns < step.block_end + 2


@pytest.mark.parametrize("suffix", [None, Near()])
def test_taps_of_attention_agree(suffix: Suffix | None, tiny_models: dict[str, Transformer]) -> None:
    for model in tiny_models.values():
        decode(model, Best, Tapping(), suffix=suffix)


def test_pruned_columns_cost_nothing(tiny_models: dict[str, Transformer]) -> None:
    class First(Suffix):
        def visible(self, step: Step) -> Tensor:
            return step.canvas.columns < step.block_end

    model = tiny_models["llada"]
    prompt = PROMPTS[0]
    for cache in (None, KVCache()):
        out = decode(model, Best, cache, suffix=First(), prompts=[prompt])
        seen = [len(prompt) + 4 * (1 + entry.blocks[0]) for entry in out.trace]
        assert [entry.work.pairs for entry in out.trace] == [[n * n] * model.config.num_layers for n in seen]
        assert [entry.work.queries for entry in out.trace] == [[n] * model.config.num_layers for n in seen]


def test_the_entropy_of_committed_tokens_reaches_a_cache(tiny_models: dict[str, Transformer]) -> None:
    class Wanting(KVCache):
        needs_entropy = True
        seen = 0

        def end_step(self, step: Step, outcome: Outcome) -> None:
            assert outcome.entropy is not None
            assert (outcome.entropy[outcome.live] > 0).all()
            assert (outcome.entropy[~outcome.live] == 0).all()
            assert outcome.live[outcome.committed].all()
            self.seen += 1

    cache = Wanting()
    decode(tiny_models["dream"], Best, cache)
    assert cache.seen


def guided(model: Transformer, scale: float, **given: Any) -> GenerationOutput:
    return generate(model, PROMPTS, gen_length=LENGTH, block_length=4, cfg_scale=scale, **given)


def test_guidance_runs_both_contexts(tiny_models: dict[str, Transformer]) -> None:
    for model in tiny_models.values():
        out, plain = guided(model, 1.0), guided(model, 0.0)
        assert out.counts.rows == 2 * plain.counts.rows
        assert out.counts.logits == 2 * plain.counts.logits
        assert not torch.equal(out.tokens, plain.tokens)
        assert GenerationOptions(cfg_scale=1.0).cfg_scale == 1.0


class Doubting(Best):
    """Asks for the whole block once more, without each position's own token."""

    seen: ClassVar[list[tuple[Tensor, Tensor]]] = []

    def start(self, board: Board) -> None:
        self.seen.clear()

    def plan(self, board: Board) -> Plan:
        regions = super().plan(board).regions
        second = torch.zeros_like(board.masked)
        for b, region in enumerate(regions):
            if region is not None:
                second[b, region.start : region.end] = True
        return Plan(regions, leave_one_out=second)

    def commit(self, view: View) -> Tensor:
        assert view.left_out is not None
        self.seen.append((view.ids.clone(), view.left_out))
        return super().commit(view)


@pytest.fixture(scope="module")
def one_layer_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Transformer]:
    models = {}
    for family, key in (("llada", "n_layers"), ("dream", "num_hidden_layers")):
        sizes = {**SMALLEST[family], key: 1}
        models[family] = load_model(make_tiny(tmp_path_factory.mktemp(family), family, **sizes))
    return models


@pytest.mark.parametrize("cache", [None, "d2cache"])
def test_leave_one_out_rows_see_everything_but_their_own_token(
    cache: str | None, one_layer_models: dict[str, Transformer]
) -> None:
    # In one layer keys and values depend on tokens alone, so a second row sees what a plain row behind the canvas sees.
    for model in one_layer_models.values():
        config, prompt = model.config, PROMPTS[0]
        out = decode(model, Doubting, cache, prompts=[prompt])
        plain = decode(model, Best, cache, prompts=[prompt])
        assert torch.equal(out.tokens, plain.tokens), "second rows change nothing"
        assert out.counts.rows == plain.counts.rows + 4 * out.nfe
        for entry, (ids, left_out) in zip(out.trace, Doubting.seen, strict=True):
            start, _ = entry.bounds[0]
            canvas = torch.tensor([prompt + ids[0].tolist()])
            for place in range(4):
                expected = _without(model, canvas, start + place, [start + n for n in range(4)])
                assert torch.allclose(left_out[place], expected, atol=1e-4), (config.family, place)


def _without(model: Transformer, canvas: Tensor, column: int, second: list[int]) -> Tensor:
    """Logits of ``column`` where its own token is hidden; the second rows stand behind the canvas as plain tokens."""
    shift, length = model.config.shift, canvas.shape[1]
    others = [column] if shift else second
    tokens = canvas[0, [c - shift for c in others]] if shift else torch.full((len(others),), model.config.mask_id)
    ids = torch.cat((canvas, tokens[None]), dim=1)
    valid = torch.ones_like(ids, dtype=torch.bool)
    positions = torch.cat((torch.arange(length), torch.tensor([c - shift for c in others])))[None]
    hidden = torch.arange(ids.shape[1]) == column
    step = Step(replace(model.canvas(valid), positions=positions), ids, ~valid, ~valid)

    class Hiding(Cache):
        def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
            query, key, value = attn.project(attn.norm(x), step.rows)
            mixed = attn.attend(query, step.rows, key[None], value[None], mask=~hidden[None])
            return attn.output(mixed)

    asked = torch.arange(ids.shape[1])[None] == length + others.index(column)
    return model.run(ids, cache=Hiding(), logit_rows=asked, step=step).logits[0]


M, E = 256, 257  # [MASK] and end of sequence of the tiny models


@pytest.mark.parametrize(
    ("rule", "at_once", "still_open", "at_last"),
    [
        ("block", [1, 2, M, E, 5, M, M, E, M, M], [2, 5, 6, 8, 9], [1, 2, 7, E, 5, 7, E, E, E, E]),
        ("drop", [1, 2, M, E, 5, M, M, E, M, M], [2], [1, 2, 7, E, 5, 7, E, E, E, E]),
        ("cut", [1, 2, M, E, 5, M, M, E, M, M], [2], [1, 2, 7, E, 5, 7, M, E, M, M]),
        ("fill", [1, 2, M, E, E, E, E, E, E, E], [2], [1, 2, 7, E, E, E, E, E, E, E]),
    ],
)
def test_what_an_end_of_sequence_token_does(
    rule: str, at_once: list[int], still_open: list[int], at_last: list[int], tiny_models: dict[str, Transformer]
) -> None:
    model = tiny_models["llada"]
    assert (model.config.mask_id, model.config.eos_id) == (M, E)
    ids = torch.tensor([[1, 2, M, E, 5, M, M, E, M, M]])
    canvas = model.canvas(torch.ones_like(ids, dtype=torch.bool), 8, 4)
    step = Step(canvas, ids, ids == M, ids == M, bounds=[(2, 6)])
    end = EndOfText(rule, E, ids)
    after, masked = end.apply(ids, ids == M, step)
    assert after[0].tolist() == at_once
    assert torch.equal(masked, after == M)
    assert end.open(masked, canvas)[0].nonzero().flatten().tolist() == still_open
    complete = after.masked_fill(masked & (canvas.columns < 6), 7)
    after, masked = end.apply(complete, complete == M, step)
    assert after[0].tolist() == at_last
    assert torch.equal(masked, after == M)
