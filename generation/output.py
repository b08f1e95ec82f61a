"""What a generation returns: tokens, counted work and, if asked for, a trace."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from cache_zoo import Outcome, Step
from cache_zoo.work import Work
from generation.strategies.strategy import Region


@dataclass
class Counts:
    """Work of a generation, counted, so the same on every machine.

    Attributes:
        forwards: forwards run (NFE).
        rows: rows run, the mean over layers (caches that choose rows per layer make it fractional): those that went
            through the feed-forward sub-block.
        query_rows: rows whose query was computed, the mean over layers.
        kv_rows: rows whose key and value were computed, the mean over layers; a key or a value alone counts half.
        rows_full: rows that the same forwards would have run without a cache: of columns that exist, and those of
            leave-one-out rows.
        keys: query-key pairs attended (of one head), summed over layers.
        logits: rows the head was applied to.
        flops: floating-point operations of all matrix products, a multiply-add counted as two.
        cache_bytes: most bytes that the cache held between two calls of its hooks (`cache_zoo.cache_bytes`).
    """

    forwards: int = 0
    rows: float = 0.0
    query_rows: float = 0.0
    kv_rows: float = 0.0
    rows_full: int = 0
    keys: float = 0
    logits: int = 0
    flops: int = 0
    cache_bytes: int = 0

    @property
    def compute_ratio(self) -> float:
        """Rows run over rows that full recomputation would have run in the same forwards."""
        return self.rows / self.rows_full

    def add(self, step: Step) -> None:
        """Count the forward of ``step``."""
        work, layers = step.work, step.canvas.num_layers
        self.forwards += 1
        self.rows += sum(work.feed_forward) / layers
        self.query_rows += sum(work.queries) / layers
        self.kv_rows += sum(work.keys_values) / layers
        self.rows_full += sum(step.lengths) + work.beside
        self.keys += sum(work.pairs)
        self.logits += work.logits
        self.flops += work.flops

    def as_dict(self) -> dict[str, float]:
        """All counts and the compute ratio by name."""
        return {**asdict(self), "compute_ratio": self.compute_ratio}


@dataclass(frozen=True)
class Progress:
    """State of a generation after a forward.

    Attributes:
        tokens: LongTensor ``[B, gen_length]``, [MASK] where nothing is committed yet.
        committed: BoolTensor ``[B, gen_length]``, committed in this forward.
        regions: active sequence to the region that the forward decoded.
        counts: the work so far.
        revoked: BoolTensor ``[B, gen_length]``, masked again in this forward; None: none.
        lengths: columns of the generated part that exist after this forward; None: all.
    """

    tokens: Tensor
    committed: Tensor
    regions: dict[int, Region]
    counts: Counts
    revoked: Tensor | None = None
    lengths: list[int] | None = None

    def ids(self, sequence: int) -> list[int]:
        """The tokens of one sequence that exist; waits for the device."""
        length = self.tokens.shape[1] if self.lengths is None else self.lengths[sequence]
        ids: list[int] = self.tokens[sequence, :length].tolist()
        return ids


@dataclass(frozen=True)
class TraceStep:
    """One forward. Positions are columns of the left-padded canvas.

    Attributes:
        active: sequences that took part.
        blocks: per active sequence, its block.
        rows: per active sequence, the positions that ran (in any layer).
        layer_rows: per layer and active sequence, the positions whose queries ran.
        bounds: per active sequence, its region: first column and the column behind the last one.
        visible: per active sequence, the columns that could run and be attended.
        work: the work of this forward, of all contexts.
        committed: BoolTensor ``[B, gen_length]``, over all sequences of the batch.
        canvas: LongTensor ``[B, gen_length]``, the generated part after the forward.
        confidence: float32 ``[B, gen_length]``, the decoder's unscaled confidence at the masked positions whose logits
            were computed, ``-inf`` elsewhere.
        seconds: for choosing rows, forward and commit; the device is synchronised before and after, which happens only
            in traces.
        revoked: BoolTensor ``[B, gen_length]``, masked again; None: none.
        moved: BoolTensor ``[B, gen_length]``, positions that hold what stood elsewhere before; None: none.
        lengths: of all sequences of the batch, columns of the generated part that exist after the forward; None: all.
    """

    active: list[int]
    blocks: list[int]
    rows: list[list[int]]
    layer_rows: list[list[list[int]]]
    bounds: list[tuple[int, int]]
    visible: list[int]
    work: Work
    committed: Tensor
    canvas: Tensor
    confidence: Tensor
    seconds: float
    revoked: Tensor | None = None
    moved: Tensor | None = None
    lengths: list[int] | None = None


@dataclass
class GenerationOutput:
    """Result of `generation.generate`.

    Attributes:
        tokens: LongTensor ``[B, gen_length]``. With ``stop_until_eos`` positions behind the first end-of-sequence
            token may hold [MASK]; positions behind ``lengths`` do not exist and hold it too.
        nfe: forwards of the batch.
        forwards: forwards each sequence took part in.
        counts: the work of the batch.
        lengths: tokens of each sequence that exist: ``gen_length``, or fewer where the strategy lets the canvas grow.
        trace: one entry per forward, None unless asked for.
    """

    tokens: Tensor
    nfe: int
    forwards: list[int]
    counts: Counts
    lengths: list[int]
    trace: list[TraceStep] | None = field(default=None, repr=False)


class TraceRecorder:
    """Collects `TraceStep` while sequences leave the batch."""

    def __init__(self, tokens: Tensor) -> None:
        self.steps: list[TraceStep] = []
        self._tokens = tokens.clone()
        self._start = 0.0

    def begin(self) -> None:
        """Start the clock of the next forward."""
        self._start = self._now()

    def record(
        self, sequences: list[int], step: Step, ids: Tensor, outcome: Outcome, lengths: list[int] | None
    ) -> None:
        """Add the forward just run; ``ids`` is the canvas ``[B, T]`` after it, ``lengths`` as in `TraceStep`."""
        seconds = self._now() - self._start
        start, layers, work = step.canvas.prompt_length, step.canvas.num_layers, step.work
        some = slice(len(sequences))  # of the first context
        self._tokens[sequences] = ids[:, start:]
        committed, revoked, moved = (
            None if part is None else in_batch(part[:, start:], sequences, self._tokens)
            for part in (outcome.committed, outcome.revoked, outcome.moved)
        )
        assert committed is not None
        confidence = torch.full(self._tokens.shape, -torch.inf, device=self._tokens.device)
        confidence[sequences] = outcome.confidence[:, start:]
        none: list[list[int]] = [[] for _ in sequences]
        layer_rows = [work.rows[n].positions()[some] if n in work.rows else none for n in range(layers)]
        self.steps.append(
            TraceStep(
                active=list(sequences),
                blocks=step.block_index[some],
                rows=step.rows.positions()[some],
                layer_rows=layer_rows,
                bounds=step.bounds[some],
                visible=step.columns.counts[some],
                work=work,
                committed=committed,
                canvas=self._tokens.clone(),
                confidence=confidence,
                seconds=seconds,
                revoked=revoked,
                moved=moved,
                lengths=lengths,
            )
        )

    def _now(self) -> float:
        """The time, after synchronising with the device."""
        if self._tokens.device.type == "cuda":
            torch.cuda.synchronize(self._tokens.device)
        return time.perf_counter()


def in_batch(mask: Tensor, sequences: list[int], tokens: Tensor) -> Tensor:
    """BoolTensor ``mask`` of the running ``sequences`` in the shape of ``tokens``, of the whole batch."""
    whole = torch.zeros_like(tokens, dtype=torch.bool)
    whole[sequences] = mask
    return whole
