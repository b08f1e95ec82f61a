"""The denoising loop, one for all models, caches and strategies."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from cache_zoo import Cache, Outcome, Step, Suffix, make_cache, make_suffix
from cache_zoo.cache_bytes import PeakMeter
from generation.batch import Batch, check_prompts
from generation.compatibility import require_compatible
from generation.finite_logits import extremes, require_finite
from generation.options import GenerationOptions, incompatibility
from generation.output import Counts, GenerationOutput, Progress, TraceRecorder, in_batch
from generation.sampling import entropy_of, propose
from generation.strategies.registry import make_strategy
from generation.strategies.strategy import Copies, Edit, Plan, Region, View
from generation.visibility import Visibility, require_mask, require_rows
from models import Transformer


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
    recorder = TraceRecorder(decoding.batch.tokens) if trace else None
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


@dataclass(frozen=True)
class _Decided:
    """What a forward led to, and what is checked of it.

    Attributes:
        outcome: as the cache sees it.
        eligible: BoolTensor ``[B, G]``, what the strategy might have committed.
        outside: whether it committed anything else, a tensor of one element.
        resized: whether the canvas of each sequence grew or was cut.
        extremes: of the logits.
    """

    outcome: Outcome
    eligible: Tensor
    outside: Tensor
    resized: list[bool]
    extremes: Tensor


class _Decoding:
    """One batch being decoded."""

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
        self.model = model
        self.options = options = GenerationOptions.make(**given)
        self.strategy = make_strategy(options)
        self.cache = make_cache(cache) if isinstance(cache, str) else cache or Cache()
        pruning = make_suffix(suffix) if isinstance(suffix, str) else suffix or Suffix()
        check_prompts(prompts, model.config, options)
        require_compatible(self.cache, self.strategy, store)
        if reason := incompatibility(self.cache, options):
            warnings.warn(reason, UserWarning, stacklevel=4)  # past inference_mode
        self.batch = Batch(model, prompts, options, self.strategy, store, seed)
        self.visibility = Visibility(pruning, self.batch.canvas)
        self.idle = [0] * len(prompts)  # forwards in a row that committed nothing
        self.counts = Counts()

    def run(self, recorder: TraceRecorder | None = None) -> Iterator[Outcome]:
        """Yield after each forward until every sequence is finished."""
        self.meter, batch = PeakMeter(self.model), self.batch
        self._start()
        while (plan := self._plan()) is not None:
            if recorder is not None:
                recorder.begin()
            step = batch.step(plan, self.counts.forwards)
            given = step.ids.clone(), step.masked.clone()
            decided = self._forward(step, plan)
            outcome = decided.outcome
            if plan.logits is not None:
                outcome = _of_masks(outcome, step.masked[: len(batch.sequences)])
            self.meter.read(self.cache, step)  # end_step may free some of it
            self.cache.end_step(step, outcome if batch.contexts == 1 else _in_both_contexts(outcome))
            self.meter.read(self.cache, step)
            self.counts.add(step)
            self.counts.cache_bytes = self.meter.peak
            if recorder is not None:
                recorder.record(batch.sequences, step, batch.ids, outcome, batch.changed_lengths)
            yield outcome
            self._advance(step, given, decided)

    def output(self, recorder: TraceRecorder | None) -> GenerationOutput:
        """The result, once `run` is exhausted."""
        trace, batch = None if recorder is None else recorder.steps, self.batch
        return GenerationOutput(
            batch.tokens, self.counts.forwards, batch.forwards, self.counts, list(batch.lengths), trace
        )

    @torch.inference_mode()
    def progress(self) -> Iterator[Progress]:
        """`run`, as `Progress` for users."""
        batch = self.batch
        for outcome in self.run():
            tokens = batch.tokens.clone()
            tokens[batch.sequences] = batch.generated(batch.ids)
            committed = in_batch(batch.generated(outcome.committed), batch.sequences, tokens)
            revoked = outcome.revoked
            if revoked is not None:
                revoked = in_batch(batch.generated(revoked), batch.sequences, tokens)
            regions = dict(zip(batch.sequences, batch.regions, strict=True))
            yield Progress(tokens, committed, regions, replace(self.counts), revoked, batch.changed_lengths)

    def _start(self) -> None:
        self.cache.start(self.batch.canvas)
        if not getattr(self.cache, "_started", False):
            raise TypeError(f"{type(self.cache).__name__}.start must call super().start(canvas) first")
        edit = self.strategy.start(self.batch.board())
        if edit is not None:
            self.batch.begin(edit.ids, self.strategy)

    def _plan(self) -> Plan | None:
        """What the strategy asks of the next forward; None once no sequence has anything left to decode."""
        if not self.batch.sequences:
            return None
        plan = self.strategy.plan(self.batch.board())
        kept = [b for b, region in enumerate(plan.regions) if region is not None]
        if len(kept) < len(plan.regions):
            plan = plan.keep(kept)
            self._keep(kept)
        regions = [region for region in plan.regions if region is not None]
        self.batch.enter(regions)
        most = self.strategy.most_forwards
        for sequence in self.batch.sequences:
            if self.batch.forwards[sequence] >= most:
                raise RuntimeError(
                    f"{type(self.strategy).__name__} has not finished sequence {sequence} after {most} forwards, its "
                    "most_forwards; a strategy that takes tokens back says there how many it may need"
                )
        return plan if regions else None

    def _keep(self, kept: list[int]) -> None:
        """Let all sequences but ``kept`` leave the batch."""
        self.idle = [self.idle[b] for b in kept]
        index = self.batch.keep(kept)
        if index is not None:
            self.strategy.drop_finished(index[: len(kept)])
            self.visibility.keep(index)
            self.cache.drop_finished(index)

    def _forward(self, step: Step, plan: Plan) -> _Decided:
        """One forward and what it commits."""
        batch, cache = self.batch, self.cache
        lengths = plan.lengths or batch.running_lengths
        self.visibility.look(step, lengths and lengths * batch.contexts)
        rows = cache.rows(step)
        require_rows(rows, step.canvas, f"{type(cache).__name__}.rows")
        ran = self.visibility.choose(step, rows)
        live, count = self._live(step, plan, all_run=rows is None and step.visible is None, ran=ran)
        second, copies = batch.in_contexts(plan.leave_one_out), self._copies(plan.copies, step)
        logits, _, left_out, copied = self.model.run(
            step.ids,
            cache=cache,
            # Row j - shift has the logits of position j; generated positions never wrap around.
            logit_rows=live.roll(-step.canvas.shift, dims=1),
            logit_count=count,
            step=step,
            after_attention=self.meter.inside(cache, step),
            leave_one_out=second,
            copies=copies,
        )
        limits = extremes(logits)  # before they are overwritten
        uniform = batch.uniform()
        beside: dict[str, Any] = {"left_out": None if left_out is None else self._guided(left_out)}
        if copies is not None and copied is not None:
            tokens, wanted = (part[: len(batch.sequences), :, batch.start :] for part in copies)
            beside["copies"] = self._proposed_of_copies(tokens, wanted, self._guided(copied), uniform)
        return self._decide(step, live[: len(batch.sequences)], self._guided(logits), uniform, limits, beside)

    def _copies(self, tokens: Tensor | None, step: Step) -> tuple[Tensor, Tensor] | None:
        """Tokens of copies as ``[B, K, T]`` of every context, and which positions of them are predicted; None: none."""
        if tokens is None:
            return None
        batch = self.batch
        tokens = tokens.to(batch.ids.device)
        prompt = tokens.new_full((*tokens.shape[:2], batch.start), -1)
        tokens = torch.cat((prompt, tokens), dim=2).repeat(batch.contexts, 1, 1)
        run = self._running(torch.ones_like(step.masked), step, all_run=False)
        return tokens, (tokens == self.model.config.mask_id) & run.unsqueeze(1)

    def _guided(self, logits: Tensor) -> Tensor:
        """Logits after classifier-free guidance (LLaDA, arXiv 2502.09992, appendix B.2)."""
        if self.batch.contexts == 1:
            return logits
        with_prompt, without = logits.chunk(2)
        return without + (1 + self.options.cfg_scale) * (with_prompt - without)

    def _live(
        self, step: Step, plan: Plan, all_run: bool, ran: list[tuple[int, int]] | None
    ) -> tuple[Tensor, int | None]:
        """BoolTensor ``[B, T]`` of every context: the positions whose logits this forward computes.

        Returns:
            These, and their number where the host knows it: ``ran`` is what `Visibility.choose` returned.
        """
        extra = self.cache.confidence_positions(step)
        require_mask(extra, step.canvas, f"{type(self.cache).__name__}.confidence_positions")
        live = step.committable if extra is None else step.committable | (extra & step.masked)
        wanted = self.batch.in_contexts(plan.logits)
        if wanted is not None:
            live = live | wanted
        known = ran is not None and extra is None and wanted is None
        return self._running(live, step, all_run), self.batch.count_open(ran, plan.candidates) if known else None

    def _running(self, positions: Tensor, step: Step, all_run: bool) -> Tensor:
        """Those of ``positions`` ``[B, T]`` that the rows of this forward predict, in all contexts."""
        if not all_run:
            positions = positions & step.rows.mask.roll(step.canvas.shift, dims=1)
        if self.batch.contexts == 2:
            positions = positions.view(2, -1, positions.shape[1]).all(dim=0).repeat(2, 1)
        return positions

    def _decide(
        self, step: Step, live: Tensor, logits: Tensor, uniform: Tensor | None, limits: Tensor, beside: dict[str, Any]
    ) -> _Decided:
        """Propose a token for each position of ``live`` (``[B, T]``) and let the strategy decide.

        ``beside`` is what the view has of leave-one-out rows and of copies.
        """
        batch, config, size = self.batch, self.model.config, len(self.batch.sequences)
        further: dict[str, Tensor] = {}
        if self.cache.needs_entropy:
            zeros = torch.zeros_like(live, dtype=torch.float32)
            further["entropy"] = zeros.masked_scatter(live, entropy_of(logits))
        kept = logits.clone() if self.strategy.needs_logits else None
        tokens, values = self._proposed(logits, None if uniform is None else uniform[batch.generated(live)])
        proposed = batch.ids.masked_scatter(live, tokens)
        confidence = torch.full(live.shape, -torch.inf, device=live.device).masked_scatter(live, values)
        view = View(
            eligible=batch.generated(live & step.committable[:size]),
            confidence=batch.generated(confidence),
            masked=batch.generated(batch.masked),
            open=batch.generated(step.open[:size]),
            block_step=batch.block_step,
            regions=batch.regions,
            ids=batch.generated(batch.ids),
            tokens=batch.generated(proposed),
            live=batch.generated(live),
            ran=batch.generated(step.rows.mask[:size]),
            logits=kept,
            seeds=step.canvas.seeds[:size],
            mask_id=config.mask_id,
            eos_id=config.eos_id,
            lengths=batch.running_lengths,
            **beside,
        )
        if (regions := self.strategy.settle(view)) is not None:
            view = self._settled(step, view, regions)
        decision = self.strategy.decide(view)
        ids, masked, outside, resized = self._after(decision, view)
        ids, masked = batch.end_of_text.apply(ids, masked, step)
        committed = (ids != batch.ids) & ~masked
        if isinstance(decision, Edit):
            further["revoked"] = masked & ~batch.masked
            if decision.moved is not None:
                further["moved"] = moved = batch.widened(decision.moved)
                committed, further["revoked"] = committed & ~moved, further["revoked"] & ~moved
                self.visibility.forget(moved.repeat(batch.contexts, 1), step.canvas)
        batch.ids, batch.masked = ids, masked
        return _Decided(
            Outcome(live, confidence, committed, masked, **further), view.eligible, outside, resized, limits
        )

    def _settled(self, step: Step, view: View, regions: list[Region]) -> View:
        """The view within ``regions``, which the strategy chose after it saw the logits."""
        batch, name = self.batch, type(self.strategy).__name__
        for planned, chosen in zip(batch.regions, regions, strict=True):
            inside = planned.start <= chosen.start < chosen.end <= planned.end
            if chosen.block != planned.block or not inside:
                raise RuntimeError(f"{name} settled on {chosen}, which is no part of the planned {planned}")
        batch.regions = regions
        step.narrow(batch.bounds())
        eligible = view.eligible & batch.generated(step.committable[: len(regions)])
        return replace(view, regions=regions, eligible=eligible)

    def _after(self, decision: Tensor | Edit, view: View) -> tuple[Tensor, Tensor, Tensor, list[bool]]:
        """Tokens and masked positions ``[B, T]`` after the strategy's decision, and two fields of `_Decided`."""
        batch, prompt = self.batch, self.batch.ids[:, : self.batch.start]
        resized = [False] * len(batch.sequences)
        if isinstance(decision, Edit):
            if decision.lengths is not None:
                resized = batch.resize(decision.lengths)
            ids = torch.cat((prompt, decision.ids), dim=1)
            return ids, batch.widened(decision.ids == view.mask_id), torch.zeros((), device=ids.device), resized
        if decision.dtype != torch.bool or decision.shape != view.eligible.shape:
            raise TypeError(
                f"{type(self.strategy).__name__} must return a BoolTensor {list(view.eligible.shape)}, not "
                f"{decision.dtype} {list(decision.shape)}"
            )
        ids = torch.cat((prompt, torch.where(decision, view.tokens, view.ids)), dim=1)
        return ids, batch.masked & ~batch.widened(decision), (decision & ~view.eligible).any(), resized

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

    def _advance(self, step: Step, given: tuple[Tensor, Tensor], decided: _Decided) -> None:
        """Bring to the host what the next plan needs, and check what cache and strategy did.

        ``given`` are copies of the step's tensors, from before anything could write into them.
        """
        batch, size = self.batch, len(self.batch.sequences)
        masked, open_ = batch.generated(batch.masked), batch.generated(batch.open())
        written = ((step.ids != given[0]) | (step.masked != given[1])).any()
        changed = decided.outcome.changed.any(dim=1)
        # Control flow synchronises with the device once per step, here; small numbers are exact in float32.
        flags = torch.cat((changed, torch.stack((written, decided.outside.bool())))).float()
        state = (masked.float() + open_.float()).flatten()
        values = torch.cat((state, flags, decided.extremes)).cpu()
        *moved, written_to, outside, lowest, highest = values[state.shape[0] :].tolist()
        cache, strategy = type(self.cache).__name__, type(self.strategy).__name__
        if written_to:
            raise RuntimeError(f"{cache} or {strategy} wrote into the tensors of a step or a view, which are read-only")
        if outside:
            raise RuntimeError(f"{strategy} committed positions that are not eligible")
        require_finite((lowest, highest), self.model, step, decided.outcome.live, self.cache)
        self.idle = [
            0 if some or resized else idle + 1
            for some, resized, idle in zip(moved, decided.resized, self.idle, strict=True)
        ]
        for b, idle in enumerate(self.idle):
            if idle >= self.strategy.patience:
                self._raise_stuck(b, decided.eligible)
        held = values[: state.shape[0]].view(size, -1)
        batch.advance(held > 0, held > 1)

    def _raise_stuck(self, b: int, eligible: Tensor) -> None:
        """Name who is to blame for a sequence that nothing is committed of."""
        where = f"of block {self.batch.regions[b].block} of sequence {self.batch.sequences[b]}"
        if bool(eligible[b].any()):
            raise RuntimeError(
                f"{type(self.strategy).__name__} committed none of the positions {where} that it was offered, "
                f"{self.idle[b]} forwards in a row"
            )
        raise RuntimeError(f"{type(self.cache).__name__} ran no row that predicts a masked position {where}")


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
