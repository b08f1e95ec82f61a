"""The denoising loop, one for all models, caches and strategies."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cache_zoo import Cache, Outcome, Step, UsageError, make_cache
from cache_zoo.cache_bytes import PeakMeter
from cache_zoo.errors import require
from generation.finite_logits import extremes, require_finite
from generation.options import GenerationOptions, incompatibility
from generation.output import Counts, GenerationOutput, Progress, TraceRecorder
from generation.sampling import propose
from generation.strategies.registry import strategies
from generation.strategies.strategy import Strategy, View
from models import ModelConfig, Transformer
from models.work import Work


@torch.inference_mode()
def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    cache: Cache | str | None = None,
    *,
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
        seed: one for the batch (sequence ``i`` draws from ``seed + i``), or one per sequence.
        trace: record every forward in the output.
        options: fields of `GenerationOptions`: strategy, gen_length, block_length, num_transfer_tokens or steps,
            threshold, factor, sigma, alg, temperature, top_p, top_k, stop_until_eos, logits_eos_inf,
            confidence_eos_eot_inf.

    Raises:
        UsageError: unknown or invalid options, an empty prompt, one that does not fit, an unknown token.
        NotFiniteError: a logit is NaN or infinite; the message names the place where it arises.

    Warns:
        UserWarning: the cache can save nothing with these options.
    """
    decoding = _Decoding(model, prompts, cache, seed, options)
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
    return _Decoding(model, prompts, cache, seed, options).progress()


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


def _generators(seed: int | Sequence[int] | None, batch: int, device: torch.device) -> list[torch.Generator]:
    if seed is None:
        seed = int(torch.randint(2**62, ()))
    seeds = [seed + i for i in range(batch)] if isinstance(seed, int) else list(seed)
    if len(seeds) != batch:
        raise UsageError(f"seed has {len(seeds)} entries for {batch} prompts; give one per prompt, or one number")
    return [torch.Generator(device).manual_seed(value) for value in seeds]


class _Decoding:
    """The state of one batch being decoded: ``B`` sequences still running, canvas ``[B, T]``."""

    def __init__(
        self,
        model: Transformer,
        prompts: Sequence[Sequence[int]],
        cache: Cache | str | None,
        seed: int | Sequence[int] | None,
        given: dict[str, Any],
    ) -> None:
        self.options = options = GenerationOptions.make(**given)
        self.strategy: Strategy = strategies.make(options.strategy, options=options)
        self.cache = make_cache(cache) if isinstance(cache, str) else cache or Cache()
        check_prompts(prompts, model.config, options)
        if reason := incompatibility(self.cache, options):
            warnings.warn(reason, UserWarning, stacklevel=4)  # past inference_mode
        self.generators = _generators(seed, len(prompts), model.device)
        self.model, config, length = model, model.config, max(len(prompt) for prompt in prompts)
        tail = [config.mask_id] * options.gen_length
        padded = [[config.pad_id] * (length - len(prompt)) + list(prompt) + tail for prompt in prompts]
        self.ids = torch.tensor(padded, device=model.device)
        columns = torch.arange(self.ids.shape[1], device=model.device)
        starts = torch.tensor([length - len(prompt) for prompt in prompts], device=model.device)
        self.canvas = model.canvas(columns >= starts[:, None], options.gen_length, options.block)
        self.masked = (columns >= length).expand_as(self.ids).clone()
        self.sequences = list(range(len(prompts)))
        self.block_index = [0] * len(prompts)
        self.block_step = [0] * len(prompts)
        self.tokens = self.ids[:, length:].clone()
        self.forwards = [0] * len(prompts)
        self.left = [options.gen_length] * len(prompts)
        self.counts = Counts()

    def run(self, recorder: TraceRecorder | None = None) -> Iterator[Outcome]:
        """Yield after each forward until every sequence is finished."""
        meter = PeakMeter(self.model)
        self.cache.start(self.canvas)
        while self.sequences:
            if recorder is not None:
                recorder.begin()
            progress = list(self.block_index), list(self.block_step)
            step = Step(self.canvas, self.ids, self.masked, self.open, self.counts.forwards, *progress)
            outcome, work = self._forward(step)
            meter.read(self.cache, step)  # end_step may free some of it
            self.cache.end_step(step, outcome)
            meter.read(self.cache, step)
            self.counts.add(work, step)
            self.counts.cache_bytes = meter.peak
            if recorder is not None:
                recorder.record(self.sequences, step, self.ids, outcome, work)
            yield outcome
            self._advance(step, outcome)

    def output(self, recorder: TraceRecorder | None) -> GenerationOutput:
        """The result, once `run` is exhausted."""
        trace = None if recorder is None else recorder.steps
        return GenerationOutput(self.tokens, self.counts.forwards, self.forwards, self.counts, trace)

    @torch.inference_mode()
    def progress(self) -> Iterator[Progress]:
        """`run`, as `Progress` for users."""
        start = self.canvas.prompt_length
        for outcome in self.run():
            tokens, committed = self.tokens.clone(), torch.zeros_like(self.tokens, dtype=torch.bool)
            tokens[self.sequences] = self.ids[:, start:]
            committed[self.sequences] = outcome.committed[:, start:]
            blocks = dict(zip(self.sequences, self.block_index, strict=True))
            yield Progress(tokens, committed, blocks, replace(self.counts))

    def _forward(self, step: Step) -> tuple[Outcome, Work]:
        """One forward and what it commits."""
        canvas, start = step.canvas, step.canvas.prompt_length
        rows = self.cache.rows(step)
        extra = self.cache.confidence_positions(step)
        live = step.committable if extra is None else step.committable | (extra & step.masked)
        if rows is not None:
            live = live & rows.roll(canvas.shift, dims=1)
        # Row j - shift has the logits of position j; generated positions never wrap around.
        logit_rows = live.roll(-canvas.shift, dims=1)
        forward = self.model.run(self.ids, rows, cache=self.cache, logit_rows=logit_rows, step=step)

        self._extremes = extremes(forward.logits)  # before they are overwritten
        config, noise = self.model.config, self._noise(live[:, start:])
        tokens, values = propose(
            forward.logits, self.options, config.mask_id, noise, eos_id=config.eos_id, eot_id=config.eot_id
        )
        proposed = self.ids.masked_scatter(live, tokens)
        confidence = torch.full(self.ids.shape, -torch.inf, device=self.ids.device).masked_scatter(live, values)
        view = View(
            (live & step.committable)[:, start:], confidence[:, start:], self.masked[:, start:], self.block_step
        )
        committed = torch.zeros_like(self.masked)
        committed[:, start:] = self.strategy.commit(view)
        self.ids = torch.where(committed, proposed, self.ids)
        self.masked = self.masked & ~committed
        return Outcome(live, confidence, committed, self.masked), forward.work

    def _noise(self, live: Tensor) -> tuple[Tensor, Tensor] | None:
        """Two uniform numbers for each live position (BoolTensor ``[B, G]``).

        Each sequence draws for all its positions in every step, so its draws depend neither on the rows that run nor
        on the rest of the batch.
        """
        if not self.options.random:
            return None
        shape = (2, live.shape[1])
        drawn = torch.stack(
            [torch.rand(shape, generator=generator, device=live.device) for generator in self.generators], dim=1
        )
        return drawn[0][live], drawn[1][live]

    @property
    def open(self) -> Tensor:
        """BoolTensor ``[B, T]``: positions to commit before a sequence is finished."""
        if not self.options.stop_until_eos:
            return self.masked
        ended = (self.ids == self.model.config.eos_id) & (self.canvas.columns >= self.canvas.prompt_length)
        return self.masked & (ended.cumsum(dim=1) == 0)

    def _advance(self, step: Step, outcome: Outcome) -> None:
        """Move each sequence to its next open block; those that have none leave the batch."""
        blocks = self.open[:, self.canvas.prompt_length :].unflatten(1, (-1, self.canvas.block_length)).sum(dim=2)
        # Control flow synchronises with the device once per step, here; counts are exact in float32.
        values = torch.cat((blocks.flatten().float(), self._extremes)).tolist()
        require_finite(values[-2:], self.model, step, outcome.live, self.cache)
        counts, width = [int(count) for count in values[:-2]], blocks.shape[1]
        left = [counts[first : first + width] for first in range(0, len(counts), width)]
        kept = []
        for b, sequence in enumerate(self.sequences):
            self.forwards[sequence] += 1
            if sum(left[b]) == self.left[sequence]:
                raise RuntimeError(
                    f"{type(self.cache).__name__} ran no row that predicts a masked position of block "
                    f"{self.block_index[b]} of sequence {sequence}, or {type(self.strategy).__name__} committed none"
                )
            self.left[sequence] = sum(left[b])
            following = next((n for n, masks in enumerate(left[b]) if masks), None)
            if following is None:
                continue
            same = following == self.block_index[b]
            self.block_step[b] = self.block_step[b] + 1 if same else 0
            self.block_index[b] = following
            kept.append(b)
        self.tokens[self.sequences] = self.ids[:, self.canvas.prompt_length :]
        if len(kept) < len(self.sequences):
            self._keep(kept)

    def _keep(self, kept: list[int]) -> None:
        self.sequences = [self.sequences[b] for b in kept]
        self.generators = [self.generators[b] for b in kept]
        self.block_index = [self.block_index[b] for b in kept]
        self.block_step = [self.block_step[b] for b in kept]
        if kept:
            index = torch.tensor(kept, device=self.ids.device)
            self.canvas = self.canvas.keep(index)
            self.ids, self.masked = self.ids[index], self.masked[index]
            self.cache.drop_finished(index)
