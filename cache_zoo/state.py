"""What a cache sees: the canvas (fixed during a generation), the step (before a forward) and its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from cache_zoo.rows import Rows
from cache_zoo.work import Work


def compact(mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """Places where BoolTensor ``mask`` ``[..., T]`` is true, without gaps. Synchronises with the device once.

    Returns:
        LongTensor ``[..., S]`` of the places in ascending order, filled up with the first one; and BoolTensor
        ``[..., S]``, False where it is filled up, or None if it is nowhere.
    """
    counts = mask.sum(dim=-1)
    least, width = torch.stack(counts.aminmax()).tolist()
    index = mask.int().sort(dim=-1, descending=True, stable=True).indices[..., :width]
    if least == width:
        return index, None
    real = mask.gather(-1, index)
    return torch.where(real, index, index[..., :1]), real


@dataclass(frozen=True)
class Columns:
    """Canvas columns that attention reads, the same for all rows of a sequence.

    Attributes:
        index: LongTensor ``[B, S]``, the columns in ascending order; a sequence with fewer than ``S`` repeats one of
            its own. None: all ``S = T`` columns.
        mask: BoolTensor ``[B, S]``, False where ``index`` only fills up, and at padding; None: all are read.
        counts: columns read of each sequence, ``B`` host integers.
        length: ``T``.
    """

    index: Tensor | None
    mask: Tensor | None
    counts: list[int]
    length: int

    @classmethod
    def from_mask(cls, visible: Tensor) -> Columns:
        """The columns where BoolTensor ``visible`` ``[B, T]`` is true. Synchronises with the device."""
        index, mask = compact(visible)
        return cls(index, mask, visible.sum(dim=1).tolist(), visible.shape[1])

    def gather(self, canvas: Tensor) -> Tensor:
        """``[B, T, ...]`` to ``[B, S, ...]``."""
        if self.index is None:
            return canvas
        batch, length = canvas.shape[:2]
        flat = self.index + torch.arange(batch, device=canvas.device)[:, None] * length
        return canvas.reshape(batch * length, *canvas.shape[2:])[flat]

    def scatter(self, values: Tensor) -> Tensor:
        """``[B, ..., S]`` to ``[B, ..., T]``, zeros at columns that are not read."""
        if self.index is None:
            return values
        between = [1] * (values.dim() - 2)
        if self.mask is not None:
            values = values.masked_fill(~self.mask.view(self.mask.shape[0], *between, -1), 0)
        index = self.index.view(self.index.shape[0], *between, -1).expand_as(values)
        # adding, because a column that fills up stands there twice
        return values.new_zeros(*values.shape[:-1], self.length).scatter_add_(-1, index, values)


@dataclass(frozen=True)
class Canvas:
    """Shapes that stay fixed while the sequences of one batch are generated.

    A canvas is ``[B, T]`` with ``T = prompt_length + gen_length``: left padding, prompt, generated part.

    Attributes:
        valid: BoolTensor ``[B, T]``, False at left padding.
        lengths: valid positions of each sequence, ``B`` host integers.
        positions: LongTensor ``[B, T]``, position ids (0 at a sequence's first valid token).
        prompt_length: columns before the generated part, padding included.
        gen_length: columns of the generated part.
        block_length: width of one semi-autoregressive block; equals ``gen_length`` for full-canvas decoding.
        shift: 1 where row ``j - 1`` predicts token ``j`` (models adapted from autoregressive ones), else 0.
        num_layers, num_heads, num_kv_heads, head_dim, hidden_size: sizes of the network.
        dtype: dtype of activations, keys and values.
        window_shift: columns by which the rows that run for a block precede it: ``shift``, or 0 where the block's first
            forward commits its first token, so that the row before the block predicts nothing any more.
        steps: forwards that the schedule gives the whole generation; None: confidences decide how many there are.
        seeds: of each sequence, for whatever draws; the same for both contexts of classifier-free guidance.
        store: how keys and values are kept, a name in `cache_zoo.stores.STORES`.
    """

    valid: Tensor
    lengths: list[int]
    positions: Tensor
    prompt_length: int
    gen_length: int
    block_length: int
    shift: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    hidden_size: int
    dtype: torch.dtype
    window_shift: int = 0
    steps: int | None = None
    seeds: list[int] = field(default_factory=list)
    store: str = "native"

    @property
    def shape(self) -> tuple[int, int]:
        return self.valid.shape[0], self.valid.shape[1]

    @property
    def device(self) -> torch.device:
        return self.valid.device

    @cached_property
    def key_mask(self) -> Tensor | None:
        """BoolTensor ``[B, T]`` of the keys to attend, or None without padding."""
        return None if min(self.lengths) == self.shape[1] else self.valid

    @cached_property
    def all_columns(self) -> Columns:
        """Every valid column."""
        return Columns(None, self.key_mask, self.lengths, self.shape[1])

    @cached_property
    def columns(self) -> Tensor:
        """LongTensor ``[1, T]``: 0 .. T-1."""
        return torch.arange(self.shape[1], device=self.device).unsqueeze(0)

    @cached_property
    def all_rows(self) -> Rows:
        """Every valid position."""
        return Rows.from_mask(self.valid)

    def keep(self, kept: Tensor) -> Canvas:
        """The canvas of the sequences ``kept`` (LongTensor)."""
        some = kept.tolist()
        return replace(
            self,
            valid=self.valid[kept],
            lengths=[self.lengths[b] for b in some],
            positions=self.positions[kept],
            seeds=[self.seeds[b] for b in some] if self.seeds else [],
        )


@dataclass
class Step:
    """The state before one forward, read-only for caches (but for ``rows``, see `cache_zoo.Cache.enter`).

    Attributes:
        canvas: the canvas of the sequences still running; ``B`` is their number.
        ids: LongTensor ``[B, T]``, the current tokens.
        masked: BoolTensor ``[B, T]``, generated positions that hold [MASK].
        open: BoolTensor ``[B, T]``, the masked positions still to commit: all, or those before the end-of-sequence
            token where decoding stops there.
        index: forwards since the generation began, the same for all sequences of the batch, because each unfinished
            sequence takes part in every forward.
        block_index: current block of each sequence (host integers).
        block_step: forwards each sequence has spent in its current block before this one (host integers).
        bounds: first column of each sequence's block and the column behind its last one (host integers); blocks need
            not be equally long, and a strategy may move one in every forward. Where the end of a block depends on the
            logits of its first forward, they are narrowed to it before `Cache.end_step`.
        candidates: BoolTensor ``[B, T]``, positions that the strategy may commit now; None: the whole block.
        planned: LongTensor ``[B, T]``, the positions that this forward will commit: 1, 2, ... in their order, 0
            elsewhere; None: the strategy does not know.
        last_of_block: per sequence, whether this forward completes the block; None: the strategy does not know.
        visible: BoolTensor ``[B, T]``, columns that run and are attended at all; None: all valid ones.
        fresh: BoolTensor ``[B, T]``, visible columns that have never run, or that hold the token of another place since
            they did: they run in this forward, in all layers; None: there are none.
        rows: the rows that run, set once the cache has chosen them.
        columns: the visible columns, as attention reads them.
        lengths: valid columns that exist, of each sequence (host integers): those of the canvas, fewer where a strategy
            cuts the canvas or lets it grow.
        work: the work of this forward.
    """

    canvas: Canvas
    ids: Tensor
    masked: Tensor
    open: Tensor
    index: int = 0
    block_index: list[int] = field(default_factory=list)
    block_step: list[int] = field(default_factory=list)
    bounds: list[tuple[int, int]] = field(default_factory=list)
    candidates: Tensor | None = None
    planned: Tensor | None = None
    last_of_block: list[bool] | None = None
    visible: Tensor | None = None
    fresh: Tensor | None = None
    rows: Rows = field(init=False)
    columns: Columns = field(init=False)
    lengths: list[int] = field(init=False)
    work: Work = field(init=False)

    def __post_init__(self) -> None:
        self.rows, self.columns = self.canvas.all_rows, self.canvas.all_columns
        self.lengths = self.canvas.lengths
        self.work = Work(self.canvas.num_layers)

    def narrow(self, bounds: list[tuple[int, int]]) -> None:
        """Replace ``bounds`` by those that the logits of this forward decided on."""
        self.bounds = bounds
        for name in ("block_start", "block_end", "block", "committable"):
            self.__dict__.pop(name, None)  # computed of the old ones

    @cached_property
    def block_start(self) -> Tensor:
        """LongTensor ``[B, 1]``: first column of each sequence's current block."""
        return torch.tensor([start for start, _ in self.bounds], device=self.canvas.device).unsqueeze(1)

    @cached_property
    def block_end(self) -> Tensor:
        """LongTensor ``[B, 1]``: the column behind each sequence's current block."""
        return torch.tensor([end for _, end in self.bounds], device=self.canvas.device).unsqueeze(1)

    @cached_property
    def block(self) -> Tensor:
        """BoolTensor ``[B, T]``: the current block of each sequence."""
        columns = self.canvas.columns
        return (columns >= self.block_start) & (columns < self.block_end)

    @cached_property
    def committable(self) -> Tensor:
        """BoolTensor ``[B, T]``: the open positions of the current block that this step may commit."""
        within = self.open & self.block
        return within if self.candidates is None else within & self.candidates


@dataclass(frozen=True)
class Outcome:
    """Result of a forward.

    Attributes:
        live: BoolTensor ``[B, T]``, positions that were masked before the step and whose logits were computed.
        confidence: float32 ``[B, T]``, the decoder's unscaled confidence at live positions, ``-inf`` elsewhere.
        committed: BoolTensor ``[B, T]``, positions whose token was set or changed in this step, but for ``moved``.
        masked: BoolTensor ``[B, T]``, positions still masked after it.
        revoked: BoolTensor ``[B, T]``, positions that hold [MASK] again; None: none.
        moved: BoolTensor ``[B, T]``, positions that hold what stood elsewhere before, since the canvas grew; they are
            ``fresh`` in the next step; None: none.
        entropy: float32 ``[B, T]``, entropy in nats of the distribution at live positions, 0 elsewhere; only with
            `cache_zoo.Cache.needs_entropy`.
    """

    live: Tensor
    confidence: Tensor
    committed: Tensor
    masked: Tensor
    revoked: Tensor | None = None
    moved: Tensor | None = None
    entropy: Tensor | None = None

    @property
    def changed(self) -> Tensor:
        """BoolTensor ``[B, T]``: positions that hold another token than before."""
        return self.committed if self.revoked is None else self.committed | self.revoked
