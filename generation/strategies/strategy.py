"""The `Strategy` interface: which positions a forward may commit, and which of them it commits.

Before a forward a strategy gets a `Board` and returns a `Plan`; after it, it gets a `View` and returns what it commits,
or an `Edit` of the generated part. A strategy that ranks the masks of a block writes `Strategy.commit` alone.

``B`` running sequences, ``G`` columns of the generated part.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from cache_zoo.errors import require
from generation.options import RULES, GenerationOptions
from generation.sampling import entropy_of

RANKING = "num_transfer_tokens steps alpha factor frechet gamma debias first_forward sigma alg_temp".split()
"""Options that say how strategies rank and count tokens; one with thresholds of its own refuses them."""


class Region(NamedTuple):
    """Columns of the generated part that a sequence decodes now, ``start`` to ``end`` (exclusive).

    Attributes:
        block: number of the block; caches take another number for a new block and may refresh. Bounds may change within
            one block.
        start, end: its columns.
    """

    block: int
    start: int
    end: int


@dataclass(frozen=True)
class Board:
    """What a strategy sees before a forward.

    Attributes:
        ids: LongTensor ``[B, G]``.
        masked: BoolTensor ``[B, G]`` on the CPU, positions that hold [MASK].
        open: BoolTensor ``[B, G]`` on the CPU, the masked positions still to commit: without those behind an
            end-of-sequence token where decoding stops there.
        regions: the regions of the last forward; None at the start.
        block_step: forwards that each sequence has spent in its region so far, this one not counted.
        seeds: of each sequence, for whatever draws.
        lengths: columns of the generated part that exist; None: all. Those behind are never open.
    """

    ids: Tensor
    masked: Tensor
    open: Tensor
    regions: list[Region] | None
    block_step: list[int]
    seeds: list[int]
    lengths: list[int] | None = None


@dataclass(frozen=True)
class Plan:
    """What a strategy asks of the next forward.

    Attributes:
        regions: of each sequence; None: it is finished and leaves the batch.
        candidates: BoolTensor ``[B, G]``, positions of the region that may be committed; None: all open ones.
        planned: LongTensor ``[B, G]``, the positions that will be committed, where that is known: 1, 2, ... in their
            order, 0 elsewhere.
        last: whether the forward completes the region, where that is known.
        logits: BoolTensor ``[B, G]``, further positions whose logits are wanted, anywhere in the canvas, written ones
            included.
        lengths: columns of the generated part that run and are attended in this forward; None: all that exist.
        leave_one_out: BoolTensor ``[B, G]``, positions to predict a second time, from everything but their own token.
        copies: LongTensor ``[B, K, G]``, tokens of ``K`` copies of each region, predicted beside the canvas as if they
            stood in it; -1 outside of the region, or everywhere if a sequence has no copy.
    """

    regions: list[Region | None]
    candidates: Tensor | None = None
    planned: Tensor | None = None
    last: list[bool] | None = None
    logits: Tensor | None = None
    lengths: list[int] | None = None
    leave_one_out: Tensor | None = None
    copies: Tensor | None = None

    def keep(self, kept: list[int]) -> Plan:
        """The plan of the sequences ``kept``."""
        return Plan(**{field.name: _kept(getattr(self, field.name), kept) for field in fields(self)})


class Copies(NamedTuple):
    """What a strategy sees of the copies of `Plan.copies`.

    Attributes:
        tokens: LongTensor ``[B, K, G]``, proposed tokens at live positions, else those of the plan.
        confidence: float32 ``[B, K, G]``, ``-inf`` where it was not computed.
        live: BoolTensor ``[B, K, G]``, masked positions of copies whose logits were computed.
    """

    tokens: Tensor
    confidence: Tensor
    live: Tensor


@dataclass(frozen=True)
class View:
    """What a strategy sees after a forward.

    Attributes:
        eligible: BoolTensor ``[B, G]``, open candidates whose logits are live.
        confidence: float32 ``[B, G]``, at least at eligible positions; ``-inf`` where not computed.
        masked: BoolTensor ``[B, G]``, masked positions before this step.
        open: BoolTensor ``[B, G]``, those of them still to commit: all, or those before the end of the text or of the
            canvas.
        block_step: forwards each sequence had spent in its region before this one.
        regions: of each sequence.
        ids: LongTensor ``[B, G]``, the tokens before this step.
        tokens: LongTensor ``[B, G]``, proposed tokens at live positions, else as in ``ids``.
        live: BoolTensor ``[B, G]``, positions whose logits were computed: masked ones, and those of `Plan.logits`.
        ran: BoolTensor ``[B, G]``, positions whose row ran.
        logits: float32 ``[M, V]`` of the live positions, sequence after sequence; only with `Strategy.needs_logits`.
            They are the model's, after classifier-free guidance and before temperature, filters and the options of the
            end-of-sequence token, which shape ``tokens`` and ``confidence`` alone.
        left_out: float32 ``[K, V]``, logits of the positions of `Plan.leave_one_out`, sequence after sequence.
        seeds: of each sequence.
        mask_id, eos_id: special tokens.
        lengths: columns of the generated part that exist; None: all.
        copies: what was predicted of the copies of the plan; None: it has none.
    """

    eligible: Tensor
    confidence: Tensor
    masked: Tensor
    open: Tensor
    block_step: list[int]
    regions: list[Region]
    ids: Tensor
    tokens: Tensor
    live: Tensor
    ran: Tensor
    logits: Tensor | None
    left_out: Tensor | None
    seeds: list[int]
    mask_id: int
    eos_id: int | None
    lengths: list[int] | None = None
    copies: Copies | None = None

    def entropy(self) -> Tensor:
        """Entropy in nats of the distributions at live positions, float32 ``[B, G]``, 0 elsewhere (needs logits)."""
        return self.spread(entropy_of(self._wanted_logits))

    def top(self, number: int) -> tuple[Tensor, Tensor]:
        """Probabilities (float32) and ids of the likeliest tokens, each ``[B, G, number]``, 0 where not live.

        Needs logits, and is made of these: [MASK] may be among the tokens, which is never proposed.
        """
        values, ids = self._wanted_logits.log_softmax(dim=1).topk(number, dim=1)
        return self.spread(values.exp()), self.spread(ids)

    def spread(self, values: Tensor) -> Tensor:
        """``[M, ...]``, one line per live position, to ``[B, G, ...]``, zeros elsewhere."""
        spread = values.new_zeros(*self.live.shape, *values.shape[1:])
        spread[self.live] = values
        return spread

    @property
    def _wanted_logits(self) -> Tensor:
        if self.logits is None:
            raise TypeError("the strategy does not say needs_logits")
        return self.logits


@dataclass(frozen=True)
class Edit:
    """Another generated part, from which commits and revocations follow.

    A strategy that stops a sequence returns no region for it in its next plan.

    Attributes:
        ids: LongTensor ``[B, G]``; [MASK] where nothing is committed. A token may differ from the one before.
        moved: BoolTensor ``[B, G]``, positions that hold what stood elsewhere before: their keys and values are
            forgotten, and they run in the next forward; None: none.
        lengths: columns of the generated part that exist from now on; None: as before.
    """

    ids: Tensor
    moved: Tensor | None = None
    lengths: list[int] | None = None


class Strategy:
    """Decides what a forward commits. One object decodes one batch.

    Parameters of its own are keyword arguments of the constructor behind ``options``.
    """

    paper: ClassVar[str] = ""
    """Source of the method: title and arXiv id."""
    needs_logits: bool = False
    """Needs the logits of all live positions (`View.logits`)."""
    makes_blocks: ClassVar[bool] = False
    """Its regions are blocks to a cache even where ``block_length`` is the whole canvas."""
    resizes: bool = False
    """Not every column exists in every forward (`Plan.lengths`, `Edit.lengths`)."""
    rows_beside: int = 0
    """Rows beside the canvas that its plans may ask for, per position at most (`Plan.leave_one_out`, `Plan.copies`)."""
    patience: int = 1
    """An error after so many forwards in a row that leave a sequence as it is."""
    plans_ahead: bool = False
    """Its plans say which positions a forward will commit (`Plan.planned`)."""
    equal_blocks: ClassVar[bool] = True
    """``block_length`` must divide ``gen_length``."""
    counted: bool = True
    """The number of tokens that a forward commits does not depend on what the model predicts. A strategy with a rule of
    its own says False; an object of any other says what its options say."""

    def __init__(self, options: GenerationOptions) -> None:
        self.options = options
        self.counted = self.counted and options.counted

    @property
    def initial_length(self) -> int | None:
        """Columns of the generated part that exist at first; None: all of them, for good."""
        return None

    @property
    def most_forwards(self) -> int:
        """Forwards that a sequence takes at most; more of them are an error.

        Right for a strategy that takes nothing back. One that revokes tokens says how often it may.
        """
        return self.options.gen_length * self.patience

    def start(self, board: Board) -> Edit | None:
        """Reset; called once, before the first plan. An `Edit` is the canvas to begin with."""
        return None

    def plan(self, board: Board) -> Plan:
        """The next forward: by default each sequence decodes its first block that has an open position."""
        return Plan(first_open_block(board.open, self.options.block))

    def settle(self, view: View) -> list[Region] | None:
        """The regions, if the logits of this forward decide how far they reach: each within the planned one, of the
        same block. What is eligible, and what caches and the rules for the end of the text take for the block, follows
        them. None: as planned.
        """
        return None

    def decide(self, view: View) -> Tensor | Edit:
        """What to commit, a subset of ``view.eligible``, BoolTensor ``[B, G]``; or an `Edit`."""
        return self.commit(view)

    def commit(self, view: View) -> Tensor:
        """Positions to commit, a subset of ``view.eligible``, BoolTensor ``[B, G]``."""
        raise NotImplementedError(f"{type(self).__name__} overrides neither 'commit' nor 'decide'")

    def drop_finished(self, kept: Tensor) -> None:
        """Keep the sequences ``kept`` (LongTensor of batch indices); the others have left the batch."""


def refuse_options(options: GenerationOptions, reason: str, *names: str) -> None:
    """Raise `UsageError` if one of the options ``names`` is given, which the strategy has no use for.

    Args:
        options: of the generation.
        reason: what the strategy does instead, as a clause.
        names: attributes of the options, or one of their values, such as ``alg=random``.
    """
    defaults = {entry.name: entry.default for entry in fields(GenerationOptions)}
    for name in names:
        key, _, refused = name.partition("=")
        value = getattr(options, key)
        unused = value != refused if refused else value == defaults[key] or (value == 0 and key not in RULES)
        require(unused, f"{key}={value} does not go with strategy '{options.strategy}', {reason}; leave it out")


def first_open_block(open_: Tensor, length: int) -> list[Region | None]:
    """Per sequence, the first block of ``length`` columns that has an open position (BoolTensor ``[B, G]``)."""
    first = open_.int().argmax(dim=1) // length
    found = zip(first.tolist(), open_.any(dim=1).tolist(), strict=True)
    width = open_.shape[1]
    return [Region(n, n * length, min((n + 1) * length, width)) if some else None for n, some in found]


def _kept(value: Any, kept: list[int]) -> Any:
    if isinstance(value, Tensor):
        return value[torch.tensor(kept, dtype=torch.long, device=value.device)]
    return value if value is None else [value[b] for b in kept]
