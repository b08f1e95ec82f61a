"""The sequences being decoded: their canvas, where each of them stands, and what is left of those that are finished."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cache_zoo import Step, UsageError
from cache_zoo.errors import require
from generation.end_of_text import UNTIL, EndOfText
from generation.options import GenerationOptions
from generation.strategies.strategy import Board, Plan, Region, Strategy
from models import ModelConfig, Transformer


class Batch:
    """``B`` sequences that still run, on a canvas ``[B, T]``.

    With classifier-free guidance the model and the cache see each sequence twice, the second time with its prompt
    replaced by [MASK]; both contexts get the same tokens.

    Attributes:
        ids, masked: the canvas, and which of its positions hold [MASK].
        canvas: of all contexts, as caches and suffix rules see it.
        contexts: 1, or 2 with guidance.
        sequences: numbers of the running sequences; what follows is in their order.
        regions: what each decodes now; empty before the first forward.
        block_step: forwards that each has spent in its block.
        end_of_text: the rule that ends sequences early.
        tokens: LongTensor ``[N, G]`` of all sequences, finished or not.
        forwards: forwards that each of all sequences took part in.
    """

    def __init__(
        self,
        model: Transformer,
        prompts: Sequence[Sequence[int]],
        options: GenerationOptions,
        strategy: Strategy,
        store: str,
        seed: int | Sequence[int] | None,
    ) -> None:
        self._options, self._config = options, model.config
        config, length = model.config, max(len(prompt) for prompt in prompts)
        seeds = _seeds(seed, len(prompts))
        self._generators = [torch.Generator(model.device).manual_seed(value) for value in seeds]
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
            steps=options.scheduled_steps if strategy.counted else None,
            seeds=seeds * self.contexts,
            store=store,
        )
        self.masked = (columns >= length).expand_as(self.ids).clone()
        self.end_of_text = EndOfText(UNTIL if options.stop_until_eos else options.eos, config.eos_id, self.ids)
        self.sequences = list(range(len(prompts)))
        self._places = torch.arange(len(prompts), device=model.device)  # the same on the device
        self._edges: tuple[list[tuple[int, int]], Tensor, Tensor] | None = None  # bounds, and the same on the device
        self.regions: list[Region] = []
        self.block_step = [0] * len(prompts)
        self.tokens = self.ids[:, length:].clone()
        self.forwards = [0] * len(prompts)
        # Columns that exist, of all sequences; None: all of the canvas.
        first = strategy.initial_length
        self._lengths = None if first is None else [min(first, options.gen_length)] * len(prompts)
        self._on_host = self.generated(self.masked).cpu(), self.generated(self.open()).cpu()

    @property
    def start(self) -> int:
        """The first generated column."""
        return self.canvas.prompt_length

    @property
    def lengths(self) -> list[int]:
        """Columns of the generated part that exist, of all sequences."""
        return self._lengths or [self._options.gen_length] * len(self.forwards)

    @property
    def changed_lengths(self) -> list[int] | None:
        """A copy of ``lengths``; None where all columns have existed all the time."""
        return None if self._lengths is None else list(self._lengths)

    @property
    def running_lengths(self) -> list[int] | None:
        """``changed_lengths`` of the running sequences."""
        return None if self._lengths is None else [self._lengths[sequence] for sequence in self.sequences]

    def generated(self, canvas: Tensor) -> Tensor:
        """The generated part ``[B, G]`` of ``[B, T]``."""
        return canvas[:, self.start :]

    def widened(self, generated: Tensor) -> Tensor:
        """``[B, G]`` as ``[B, T]``, with nothing in the prompt."""
        generated = generated.to(self.ids.device)
        return torch.cat((generated.new_zeros(generated.shape[0], self.start), generated), dim=1)

    def in_contexts(self, generated: Tensor | None) -> Tensor | None:
        """``widened``, for every context; None stays None."""
        return None if generated is None else self.widened(generated).repeat(self.contexts, 1)

    def open(self) -> Tensor:
        """The masked positions still to commit, BoolTensor ``[B, T]``."""
        open_, lengths = self.end_of_text.open(self.masked, self.canvas), self.running_lengths
        if lengths is None:
            return open_
        ends = torch.tensor(lengths, device=open_.device).unsqueeze(1) + self.start
        return open_ & (self.canvas.columns < ends)

    def board(self) -> Board:
        """What a strategy sees before a forward."""
        masked, open_ = self._on_host
        ids, seeds = self.generated(self.ids), self.canvas.seeds[: len(self.sequences)]
        return Board(ids, masked, open_, self.regions or None, list(self.block_step), seeds, self.running_lengths)

    def begin(self, ids: Tensor, strategy: Strategy) -> None:
        """Take over the generated part ``[B, G]`` that a strategy begins with.

        Raises:
            UsageError: it holds a token that the vocabulary lacks.
        """
        vocab = self._config.vocab_size
        within = int(ids.min()) >= 0 and int(ids.max()) < vocab
        require(within, f"{type(strategy).__name__} begins with a token id outside the vocabulary of {vocab}")
        self.ids[:, self.start :] = ids
        self.masked[:, self.start :] = ids == self._config.mask_id
        self._on_host = self.generated(self.masked).cpu(), self.generated(self.open()).cpu()
        self.tokens[self._places] = self.generated(self.ids)

    def enter(self, regions: list[Region]) -> None:
        """Decode ``regions`` next."""
        for b, region in enumerate(regions):
            if self.regions and region.block != self.regions[b].block:
                self.block_step[b] = 0
        self.regions = regions

    def bounds(self) -> list[tuple[int, int]]:
        """First column of each region and the column behind it, of all contexts."""
        return [(self.start + region.start, self.start + region.end) for region in self.regions] * self.contexts

    def step(self, plan: Plan, index: int) -> Step:
        """What caches see of forward ``index``."""
        ids, masked, contexts = self.ids, self.masked, self.contexts
        if contexts == 2:
            without_prompt = torch.where(self.canvas.columns < self.start, self._config.mask_id, ids)
            ids, masked = torch.cat((ids, without_prompt)), masked.repeat(2, 1)
        step = Step(
            self.canvas,
            ids,
            masked,
            self.open().repeat(contexts, 1),
            index,
            [region.block for region in self.regions] * contexts,
            self.block_step * contexts,
            self.bounds(),
            self.in_contexts(plan.candidates),
            self.in_contexts(plan.planned),
            None if plan.last is None else plan.last * contexts,
        )
        if self._edges is None or self._edges[0] != step.bounds:
            self._edges = step.bounds, step.block_start, step.block_end
        _, step.block_start, step.block_end = self._edges
        return step

    def count_open(self, ran: list[tuple[int, int]] | None, candidates: Tensor | None) -> int | None:
        """How many open ``candidates`` (``[B, G]``) of the regions are predicted, in all contexts, if the host knows.

        ``ran`` is the range of columns of each sequence whose rows run.
        """
        open_ = self._on_host[1]
        if ran is None or (candidates is not None and candidates.device != open_.device):
            return None
        if candidates is not None:
            open_ = open_ & candidates
        shift = self.canvas.shift - self.start
        count = 0
        for row, region, (first, end) in zip(open_, self.regions, ran[: len(self.regions)], strict=True):
            count += int(row[max(region.start, first + shift, 0) : max(min(region.end, end + shift), 0)].sum())
        return count * self.contexts

    def uniform(self) -> Tensor | None:
        """A uniform number for each position, ``[B, G]``, to draw its token; None at temperature 0.

        Each sequence draws for all its positions in every step, so its draws depend neither on the rows that run nor
        on the rest of the batch.
        """
        if self._options.temperature == 0:
            return None
        width, device = self._options.gen_length, self.ids.device
        return torch.stack([torch.rand(width, generator=one, device=device) for one in self._generators])

    def resize(self, lengths: list[int]) -> list[bool]:
        """Take over the columns that exist from now on; return which of the running sequences that changes."""
        before, self._lengths = self.lengths, list(self.lengths)
        for sequence, length in zip(self.sequences, lengths, strict=True):
            self._lengths[sequence] = length
        return [before[sequence] != self._lengths[sequence] for sequence in self.sequences]

    def advance(self, masked: Tensor, open_: Tensor) -> None:
        """Count the forward; the masks ``[B, G]`` are those of the generated part, on the CPU."""
        self._on_host = masked, open_
        for b, sequence in enumerate(self.sequences):
            self.forwards[sequence] += 1
            self.block_step[b] += 1
        self.tokens[self._places] = self.generated(self.ids)

    def keep(self, kept: list[int]) -> Tensor | None:
        """Let all sequences but ``kept`` leave; return the index of what is left, in all contexts, if there is any."""
        size = len(self.sequences)
        self.sequences = [self.sequences[b] for b in kept]
        self._generators = [self._generators[b] for b in kept]
        self.regions = [self.regions[b] for b in kept] if self.regions else []
        self.block_step = [self.block_step[b] for b in kept]
        if not kept:
            return None
        index = torch.tensor(kept, device=self.ids.device)
        self._on_host = self._on_host[0][kept], self._on_host[1][kept]
        self._places = self._places[index]
        self.ids, self.masked = self.ids[index], self.masked[index]
        self.end_of_text.keep(index)
        in_contexts = torch.cat([index + context * size for context in range(self.contexts)])
        self.canvas = self.canvas.keep(in_contexts)
        return in_contexts


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
