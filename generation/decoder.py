"""The denoising loop, one for all models, caches and strategies."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from cache_zoo import Cache, Outcome, Step, Suffix, UsageError, make_cache, make_suffix
from cache_zoo.cache_bytes import PeakMeter
from cache_zoo.errors import require
from generation.compatibility import require_compatible
from generation.end_of_text import UNTIL, EndOfText
from generation.finite_logits import extremes, require_finite
from generation.options import GenerationOptions, incompatibility
from generation.output import Counts, GenerationOutput, Progress, TraceRecorder, in_batch
from generation.sampling import entropy_of, propose
from generation.strategies.registry import make_strategy
from generation.strategies.strategy import Board, Copies, Edit, Plan, Region, View
from generation.visibility import Visibility, require_mask
from models import ModelConfig, Transformer


@torch.inference_mode()
def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    cache: Cache | str | None = None,
    *,
    suffix: Suffix | str | None = None,
    store: str = "native",
    seed: int | Sequence[int] | None = None,
    trace: bool = False,
    **options: Any,
) -> GenerationOutput:
    """Decode one canvas per prompt.

    Each sequence moves through its blocks at its own pace and leaves the batch when it is finished, so a batch decodes
    what its sequences would decode alone. `stream` decodes the same, one forward at a time.

    Args:
        model: from `models.load_model`.
        prompts: lists of token ids, of any lengths; left padded here.
        cache: from `cache_zoo.make_cache`, or the name of one with default parameters; None: no cache.
        suffix: from `cache_zoo.make_suffix`, or a name: which columns behind the block take part; None: all.
        store: how the cache keeps keys and values, a name in `cache_zoo.stores.STORES`.
        seed: one for the batch (sequence ``i`` draws from ``seed + i``), or one per sequence.
        trace: record every forward in the output.
        options: fields of `GenerationOptions`, such as strategy, gen_length, block_length, steps, threshold, alg and
            temperature, and parameters of the strategy itself.

    Raises:
        UsageError: unknown or invalid options, choices that do not go together, an empty prompt, one that does not
            fit, an unknown token.
        NotFiniteError: a logit is NaN or infinite; the message names the place where it arises.

    Warns:
        UserWarning: the cache can save nothing with these options.
    """
    decoding = _Decoding(model, prompts, cache, suffix, store, seed, options)
    recorder = TraceRecorder(decoding.tokens) if trace else None
    for _ in decoding.run(recorder):
        pass
    return decoding.output(recorder)


@torch.inference_mode()
def stream(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    cache: Cache | str | None = None,
    *,
    suffix: Suffix | str | None = None,
    store: str = "native",
    seed: int | Sequence[int] | None = None,
    **options: Any,
) -> Iterator[Progress]:
    """Decode like `generate`, which explains the arguments, one forward at a time.

    Returns:
        An iterator that runs one forward for each `Progress`.

    Raises:
        UsageError: as in `generate`, immediately.
        NotFiniteError: as in `generate`, on the request that follows the failing forward.

    Warns:
        UserWarning: as in `generate`.
    """
    return _Decoding(model, prompts, cache, suffix, store, seed, options).progress()


def check_prompts(prompts: Sequence[Sequence[int]], config: ModelConfig, options: GenerationOptions) -> None:
    """Raise `UsageError` unless every prompt is a non-empty list of known tokens that fits with ``gen_length``."""
    require(len(prompts) > 0, "there are no prompts")
    limit, vocab = config.context_length, config.vocab_size
    for number, prompt in enumerate(prompts):
        require(len(prompt) > 0, f"prompt {number} is empty")
        require(
            len(prompt) + options.gen_length <= limit,
            f"prompt {number} has {len(prompt)} tokens; with gen_length {options.gen_length} that is more than the "
            f"context of {limit}; the longest prompt that fits has {max(0, limit - options.gen_length)}",
        )
        unknown = [token for token in prompt if not 0 <= token < vocab]
        require(not unknown, f"prompt {number} has token ids outside the vocabulary of {vocab}: {unknown[:5]}")


def _seeds(seed: int | Sequence[int] | None, batch: int) -> list[int]:
    if seed is None:
        seed = int(torch.randint(2**62, ()))
    seeds = [seed + i for i in range(batch)] if isinstance(seed, int) else list(seed)
    if len(seeds) != batch:
        raise UsageError(f"seed has {len(seeds)} entries for {batch} prompts; give one per prompt, or one number")
    return seeds


class _Decoding:
    """The state of one batch being decoded: ``B`` sequences still running, canvas ``[B, T]``.

    With classifier-free guidance the model and the cache see each sequence twice, the second time with its prompt
    replaced by [MASK]; both contexts get the same tokens.
    """

    def __init__(
        self,
        model: Transformer,
        prompts: Sequence[Sequence[int]],
        cache: Cache | str | None,
        suffix: Suffix | str | None,
        store: str,
        seed: int | Sequence[int] | None,
        given: dict[str, Any],
    ) -> None:
        self.options = options = GenerationOptions.make(**given)
        self.strategy = make_strategy(options)
        self.cache = make_cache(cache) if isinstance(cache, str) else cache or Cache()
        pruning = make_suffix(suffix) if isinstance(suffix, str) else suffix or Suffix()
        check_prompts(prompts, model.config, options)
        require_compatible(self.cache, self.strategy, store)
        if reason := incompatibility(self.cache, options):
            warnings.warn(reason, UserWarning, stacklevel=4)  # past inference_mode
        seeds = _seeds(seed, len(prompts))
        self.generators = [torch.Generator(model.device).manual_seed(value) for value in seeds]
        self.model, config, length = model, model.config, max(len(prompt) for prompt in prompts)
        tail = [config.mask_id] * options.gen_length
        padded = [[config.pad_id] * (length - len(prompt)) + list(prompt) + tail for prompt in prompts]
        self.ids = torch.tensor(padded, device=model.device)
        columns = torch.arange(self.ids.shape[1], device=model.device)
        starts = torch.tensor([length - len(prompt) for prompt in prompts], device=model.device)
        self.contexts = 1 if options.cfg_scale == 0 else 2
        self.canvas = model.canvas(
            (columns >= starts[:, None]).repeat(self.contexts, 1),
            options.gen_length,
            options.block,
            window_shift=config.shift if options.first_forward == "decode" else 0,
            steps=options.scheduled_steps if self.strategy.counted else None,
            seeds=seeds * self.contexts,
            store=store,
        )
        self.masked = (columns >= length).expand_as(self.ids).clone()
        self.end_of_text = EndOfText(UNTIL if options.stop_until_eos else options.eos, config.eos_id, self.ids)
        self.visibility = Visibility(pruning, self.canvas)
        self.sequences = list(range(len(prompts)))
        self.regions: list[Region] = []
        self.block_step = [0] * len(prompts)
        self.idle = [0] * len(prompts)
        self.tokens = self.ids[:, length:].clone()
        self.forwards = [0] * len(prompts)
        self.counts = Counts()
        # Columns that exist, of all sequences of the batch; None: all of the canvas.
        first = self.strategy.initial_length
        self.lengths = None if first is None else [min(first, options.gen_length)] * len(prompts)
        self.on_host = self.masked[:, length:].cpu(), self._open()[:, length:].cpu()

    def run(self, recorder: TraceRecorder | None = None) -> Iterator[Outcome]:
        """Yield after each forward until every sequence is finished."""
        self.meter = PeakMeter(self.model)
        self._start()
        while (plan := self._plan()) is not None:
            if recorder is not None:
                recorder.begin()
            step = self._step(plan)
            outcome = self._forward(step, plan)
            self.meter.read(self.cache, step)  # end_step may free some of it
            self.cache.end_step(step, _in_both_contexts(outcome) if self.contexts == 2 else outcome)
            self.meter.read(self.cache, step)
            self.counts.add(step)
            self.counts.cache_bytes = self.meter.peak
            if recorder is not None:
                recorder.record(self.sequences, step, self.ids, outcome, self._copied_lengths())
            yield outcome
            self._advance(step, outcome)

    def output(self, recorder: TraceRecorder | None) -> GenerationOutput:
        """The result, once `run` is exhausted."""
        trace = None if recorder is None else recorder.steps
        lengths = self.lengths or [self.options.gen_length] * len(self.forwards)
        return GenerationOutput(self.tokens, self.counts.forwards, self.forwards, self.counts, lengths, trace)

    @torch.inference_mode()
    def progress(self) -> Iterator[Progress]:
        """`run`, as `Progress` for users."""
        start = self.canvas.prompt_length
        for outcome in self.run():
            tokens = self.tokens.clone()
            tokens[self.sequences] = self.ids[:, start:]
            committed = in_batch(outcome.committed[:, start:], self.sequences, tokens)
            revoked = outcome.revoked
            if revoked is not None:
                revoked = in_batch(revoked[:, start:], self.sequences, tokens)
            regions = dict(zip(self.sequences, self.regions, strict=True))
            yield Progress(tokens, committed, regions, replace(self.counts), revoked, self._copied_lengths())

    def _start(self) -> None:
        self.cache.start(self.canvas)
        if not getattr(self.cache, "_started", False):
            raise TypeError(f"{type(self.cache).__name__}.start must call super().start(canvas) first")
        edit = self.strategy.start(self._board())
        if edit is not None:
            start, vocab = self.canvas.prompt_length, self.model.config.vocab_size
            within = int(edit.ids.min()) >= 0 and int(edit.ids.max()) < vocab
            require(within, f"{type(self.strategy).__name__} begins with a token id outside the vocabulary of {vocab}")
            self.ids[:, start:] = edit.ids
            self.masked[:, start:] = edit.ids == self.model.config.mask_id
            self.on_host = (self.masked[:, start:].cpu(),) * 2
            self.tokens[self.sequences] = self.ids[:, start:]

    def _board(self) -> Board:
        masked, open_ = self.on_host
        ids, seeds = self.ids[:, self.canvas.prompt_length :], self.canvas.seeds[: len(self.sequences)]
        return Board(ids, masked, open_, self.regions or None, list(self.block_step), seeds, self._running_lengths())

    def _running_lengths(self) -> list[int] | None:
        """Columns of the generated part that exist, of the running sequences; None: all."""
        return None if self.lengths is None else [self.lengths[sequence] for sequence in self.sequences]

    def _copied_lengths(self) -> list[int] | None:
        return None if self.lengths is None else list(self.lengths)

    def _open(self) -> Tensor:
        """The masked positions still to commit, BoolTensor ``[B, T]``."""
        open_, lengths = self.end_of_text.open(self.masked, self.canvas), self._running_lengths()
        if lengths is None:
            return open_
        ends = torch.tensor(lengths, device=open_.device).unsqueeze(1) + self.canvas.prompt_length
        return open_ & (self.canvas.columns < ends)

    def _plan(self) -> Plan | None:
        """What the strategy asks of the next forward; None once no sequence has anything left to decode."""
        if not self.sequences:
            return None
        plan = self.strategy.plan(self._board())
        kept = [b for b, region in enumerate(plan.regions) if region is not None]
        if len(kept) < len(plan.regions):
            plan = plan.keep(kept)
            self._keep(kept)
        regions = [region for region in plan.regions if region is not None]
        for b, region in enumerate(regions):
            if self.regions and region.block != self.regions[b].block:
                self.block_step[b] = 0
        self.regions = regions
        return plan if regions else None

    def _step(self, plan: Plan) -> Step:
        """What caches see of the next forward."""
        ids, masked, contexts, start = self.ids, self.masked, self.contexts, self.canvas.prompt_length
        if contexts == 2:
            without_prompt = torch.where(self.canvas.columns < start, self.model.config.mask_id, ids)
            ids, masked = torch.cat((ids, without_prompt)), masked.repeat(2, 1)
        return Step(
            self.canvas,
            ids,
            masked,
            self._open().repeat(contexts, 1),
            self.counts.forwards,
            [region.block for region in self.regions] * contexts,
            self.block_step * contexts,
            [(start + region.start, start + region.end) for region in self.regions] * contexts,
            self._widened(plan.candidates),
            self._widened(plan.planned),
            None if plan.last is None else plan.last * contexts,
        )

    def _widened(self, generated: Tensor | None) -> Tensor | None:
        """``[B, G]`` as a canvas ``[B, T]`` of every context, with nothing in the prompt."""
        if generated is None:
            return None
        generated = generated.to(self.ids.device)
        prompt = generated.new_zeros(generated.shape[0], self.canvas.prompt_length)
        return torch.cat((prompt, generated), dim=1).repeat(self.contexts, 1)

    def _forward(self, step: Step, plan: Plan) -> Outcome:
        """One forward and what it commits."""
        canvas, cache = step.canvas, self.cache
        self._given = step.ids.clone(), step.masked.clone()
        lengths = plan.lengths or self._running_lengths()
        self.visibility.look(step, lengths and lengths * self.contexts)
        rows = cache.rows(step)
        require_mask(rows, canvas, f"{type(cache).__name__}.rows")
        self.visibility.choose(step, rows)
        live = self._live(step, plan, all_run=rows is None and step.visible is None)
        # Row j - shift has the logits of position j; generated positions never wrap around.
        logit_rows = live.roll(-canvas.shift, dims=1)
        second, measure = self._widened(plan.leave_one_out), self.meter.inside(cache, step)
        copies = self._copies(plan.copies, step)
        beside: dict[str, Any] = {"leave_one_out": second, "copies": copies}
        logits, _, left_out, copied = self.model.run(
            step.ids, cache=cache, logit_rows=logit_rows, step=step, after_attention=measure, **beside
        )

        self._extremes = extremes(logits)  # before they are overwritten
        left_out = None if left_out is None else self._guided(left_out)
        size = len(self.sequences)
        predicted = None
        if copies is not None and copied is not None:
            tokens, wanted = (part[:size, :, canvas.prompt_length :] for part in copies)
            predicted = tokens, wanted, self._guided(copied)
        outcome = self._commit(step, live[:size], self._guided(logits), left_out, predicted)
        return outcome if plan.logits is None else _of_masks(outcome, step.masked[:size])

    def _copies(self, tokens: Tensor | None, step: Step) -> tuple[Tensor, Tensor] | None:
        """Tokens of copies as ``[B, K, T]`` of every context, and which positions of them are predicted; None: none."""
        if tokens is None:
            return None
        tokens = tokens.to(self.ids.device)
        prompt = tokens.new_full((*tokens.shape[:2], self.canvas.prompt_length), -1)
        tokens = torch.cat((prompt, tokens), dim=2).repeat(self.contexts, 1, 1)
        run = self._running(torch.ones_like(step.masked), step, all_run=False)
        return tokens, (tokens == self.model.config.mask_id) & run.unsqueeze(1)

    def _guided(self, logits: Tensor) -> Tensor:
        """Logits after classifier-free guidance (LLaDA, arXiv 2502.09992, appendix B.2)."""
        if self.contexts == 1:
            return logits
        with_prompt, without = logits.chunk(2)
        return without + (1 + self.options.cfg_scale) * (with_prompt - without)

    def _live(self, step: Step, plan: Plan, all_run: bool) -> Tensor:
        """BoolTensor ``[B, T]`` of every context: the positions whose logits this forward computes."""
        extra = self.cache.confidence_positions(step)
        require_mask(extra, step.canvas, f"{type(self.cache).__name__}.confidence_positions")
        live = step.committable if extra is None else step.committable | (extra & step.masked)
        wanted = self._widened(plan.logits)
        if wanted is not None:
            live = live | wanted
        return self._running(live, step, all_run)

    def _running(self, positions: Tensor, step: Step, all_run: bool) -> Tensor:
        """Those of ``positions`` ``[B, T]`` that the rows of this forward predict, in all contexts."""
        if not all_run:
            positions = positions & step.rows.mask.roll(step.canvas.shift, dims=1)
        if self.contexts == 2:
            positions = positions.view(2, -1, positions.shape[1]).all(dim=0).repeat(2, 1)
        return positions

    def _commit(
        self,
        step: Step,
        live: Tensor,
        logits: Tensor,
        left_out: Tensor | None,
        copied: tuple[Tensor, Tensor, Tensor] | None,
    ) -> Outcome:
        """Propose a token for each position of ``live`` (``[B, T]``) and let the strategy decide."""
        start, size, config = step.canvas.prompt_length, len(self.sequences), self.model.config
        further: dict[str, Tensor] = {}
        if self.cache.needs_entropy:
            zeros = torch.zeros_like(live, dtype=torch.float32)
            further["entropy"] = zeros.masked_scatter(live, entropy_of(logits))
        kept = logits.clone() if self.strategy.needs_logits else None
        uniform = self._uniform()
        tokens, values = self._proposed(logits, None if uniform is None else uniform[live[:, start:]])
        proposed = self.ids.masked_scatter(live, tokens)
        confidence = torch.full(self.ids.shape, -torch.inf, device=self.ids.device).masked_scatter(live, values)
        self._eligible = (live & step.committable[:size])[:, start:]
        view = View(
            self._eligible,
            confidence[:, start:],
            self.masked[:, start:],
            self.block_step,
            self.regions,
            self.ids[:, start:],
            proposed[:, start:],
            live[:, start:],
            step.rows.mask[:size, start:],
            kept,
            left_out,
            step.canvas.seeds[:size],
            config.mask_id,
            config.eos_id,
            self._running_lengths(),
            None if copied is None else self._proposed_of_copies(*copied, uniform),
        )
        if (regions := self.strategy.settle(view)) is not None:
            view = self._settled(step, view, regions)
        decision = self.strategy.decide(view)
        ids, masked = self._after(decision, view, proposed)
        ids, masked = self.end_of_text.apply(ids, masked, step)
        committed = (ids != self.ids) & ~masked
        if isinstance(decision, Edit):
            further["revoked"] = masked & ~self.masked
            if decision.moved is not None:
                further["moved"] = moved = torch.cat((torch.zeros_like(masked[:, :start]), decision.moved), dim=1)
                committed, further["revoked"] = committed & ~moved, further["revoked"] & ~moved
                self.visibility.forget(moved.repeat(self.contexts, 1), step.canvas)
        self.ids, self.masked = ids, masked
        return Outcome(live, confidence, committed, masked, **further)

    def _settled(self, step: Step, view: View, regions: list[Region]) -> View:
        """The view within ``regions``, which the strategy chose after it saw the logits."""
        start, name = self.canvas.prompt_length, type(self.strategy).__name__
        for planned, chosen in zip(self.regions, regions, strict=True):
            inside = planned.start <= chosen.start < chosen.end <= planned.end
            if chosen.block != planned.block or not inside:
                raise RuntimeError(f"{name} settled on {chosen}, which is no part of the planned {planned}")
        self.regions = regions
        step.narrow([(start + region.start, start + region.end) for region in regions] * self.contexts)
        self._eligible = view.eligible & step.committable[: len(self.sequences), start:]
        return replace(view, regions=regions, eligible=self._eligible)

    def _after(self, decision: Tensor | Edit, view: View, proposed: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and masked positions ``[B, T]`` after the strategy's decision."""
        start, name = self.canvas.prompt_length, type(self.strategy).__name__
        self._outside, self._grew = self._extremes.new_zeros(()), [False] * len(self.sequences)
        if isinstance(decision, Edit):
            self._resize(decision.lengths)
            ids = torch.cat((self.ids[:, :start], decision.ids), dim=1)
            return ids, (ids == view.mask_id) & (self.canvas.columns >= start)
        if decision.dtype != torch.bool or decision.shape != view.eligible.shape:
            raise TypeError(
                f"{name} must return a BoolTensor {list(view.eligible.shape)}, not {decision.dtype} "
                f"{list(decision.shape)}"
            )
        self._outside = (decision & ~view.eligible).any()
        committed = torch.zeros_like(self.masked)
        committed[:, start:] = decision
        return torch.where(committed, proposed, self.ids), self.masked & ~committed

    def _resize(self, lengths: list[int] | None) -> None:
        """Take over the columns that exist from now on, of the running sequences."""
        if lengths is None:
            return
        if self.lengths is None:  # a canvas that is cut
            self.lengths = [self.options.gen_length] * len(self.forwards)
        self._grew = [self.lengths[one] != length for one, length in zip(self.sequences, lengths, strict=True)]
        for one, length in zip(self.sequences, lengths, strict=True):
            self.lengths[one] = length

    def _proposed(self, logits: Tensor, uniform: Tensor | None) -> tuple[Tensor, Tensor]:
        """A token and its confidence for each row of ``logits`` ``[M, V]``."""
        config = self.model.config
        return propose(logits, self.options, config.mask_id, uniform, eos_id=config.eos_id, eot_id=config.eot_id)

    def _proposed_of_copies(self, tokens: Tensor, live: Tensor, logits: Tensor, uniform: Tensor | None) -> Copies:
        """What copies ``[B, K, G]`` propose; they draw as the canvas does, so equal logits give equal tokens."""
        if uniform is not None:
            uniform = uniform.unsqueeze(1).expand_as(live)[live]
        proposed, values = self._proposed(logits, uniform)
        nothing = torch.full(tokens.shape, -torch.inf, device=tokens.device)
        return Copies(tokens.masked_scatter(live, proposed), nothing.masked_scatter(live, values), live)

    def _uniform(self) -> Tensor | None:
        """A uniform number for each position, ``[B, G]``, to draw its token; None at temperature 0.

        Each sequence draws for all its positions in every step, so its draws depend neither on the rows that run nor
        on the rest of the batch.
        """
        if self.options.temperature == 0:
            return None
        width, device = self.options.gen_length, self.ids.device
        return torch.stack([torch.rand(width, generator=one, device=device) for one in self.generators])

    def _advance(self, step: Step, outcome: Outcome) -> None:
        """Bring to the host what the next plan needs, and check what cache and strategy did."""
        start, size = self.canvas.prompt_length, len(self.sequences)
        open_ = self._open()[:, start:]
        written = ((step.ids != self._given[0]) | (step.masked != self._given[1])).any()
        changed = outcome.changed.any(dim=1)
        # Control flow synchronises with the device once per step, here; small numbers are exact in float32.
        flags = torch.cat((changed, torch.stack((written, self._outside.bool())))).float()
        state = (self.masked[:, start:].float() + open_.float()).flatten()
        values = torch.cat((state, flags, self._extremes)).cpu()
        *moved, written_to, outside, least, most = values[state.shape[0] :].tolist()
        self._check(step, outcome, bool(written_to), bool(outside), (least, most))
        held = values[: state.shape[0]].view(size, -1)
        self.on_host = held > 0, held > 1
        for b, sequence in enumerate(self.sequences):
            self.forwards[sequence] += 1
            self.block_step[b] += 1
            self.idle[b] = 0 if moved[b] or self._grew[b] else self.idle[b] + 1
            if self.idle[b] >= self.strategy.patience:
                self._raise_stuck(b)
        self.tokens[self.sequences] = self.ids[:, start:]

    def _check(self, step: Step, outcome: Outcome, written: bool, outside: bool, limits: tuple[float, float]) -> None:
        """Raise unless cache and strategy kept to what they may do and all logits are finite."""
        cache, strategy = type(self.cache).__name__, type(self.strategy).__name__
        if written:
            raise RuntimeError(f"{cache} or {strategy} wrote into the tensors of a step or a view, which are read-only")
        if outside:
            raise RuntimeError(f"{strategy} committed positions that are not eligible")
        require_finite(limits, self.model, step, outcome.live, self.cache)

    def _raise_stuck(self, b: int) -> None:
        """Name who is to blame for a sequence that nothing is committed of."""
        where = f"of block {self.regions[b].block} of sequence {self.sequences[b]}"
        if bool(self._eligible[b].any()):
            raise RuntimeError(
                f"{type(self.strategy).__name__} committed none of the positions {where} that it was offered, "
                f"{self.idle[b]} forwards in a row"
            )
        raise RuntimeError(f"{type(self.cache).__name__} ran no row that predicts a masked position {where}")

    def _keep(self, kept: list[int]) -> None:
        """Let all sequences but ``kept`` leave the batch."""
        size = len(self.sequences)
        self.sequences = [self.sequences[b] for b in kept]
        self.generators = [self.generators[b] for b in kept]
        self.regions = [self.regions[b] for b in kept] if self.regions else []
        self.block_step = [self.block_step[b] for b in kept]
        self.idle = [self.idle[b] for b in kept]
        if kept:
            index = torch.tensor(kept, device=self.ids.device)
            self.ids, self.masked = self.ids[index], self.masked[index]
            self.end_of_text.keep(index)
            self.strategy.drop_finished(index)
            in_contexts = torch.cat([index + context * size for context in range(self.contexts)])
            self.canvas = self.canvas.keep(in_contexts)
            self.visibility.keep(in_contexts)
            self.cache.drop_finished(in_contexts)


def _of_masks(outcome: Outcome, masked: Tensor) -> Outcome:
    """The outcome without what was computed at written positions, which concerns the strategy alone."""
    live = outcome.live & masked
    entropy = None if outcome.entropy is None else outcome.entropy * live
    return replace(outcome, live=live, confidence=outcome.confidence.masked_fill(~live, -torch.inf), entropy=entropy)


def _in_both_contexts(outcome: Outcome) -> Outcome:
    """The outcome of a guided batch, as the cache sees it."""
    both: dict[str, Any] = {}
    for field in fields(outcome):
        part = getattr(outcome, field.name)
        both[field.name] = None if part is None else part.repeat(2, 1)
    return Outcome(**both)
