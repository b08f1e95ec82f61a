"""The network of all model families: a bidirectional transformer that runs only chosen rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cache_zoo import Cache, Canvas, Rows, Step
from cache_zoo.work import Work
from models.config import ModelConfig
from models.copies import CopiedRows
from models.layers import Attention, Embedding, FeedForward, Layer, Linear, Rotation
from models.leave_one_out import LeaveOneOutRows


class Forward(NamedTuple):
    """Result of `Transformer.run`: float32 logits ``[M, V]``, in canvas order and not shifted, and the work done.

    ``left_out`` has the logits of leave-one-out rows, if some were asked for, and ``copied`` those of copies.
    """

    logits: Tensor
    work: Work
    left_out: Tensor | None = None
    copied: Tensor | None = None


class Transformer(nn.Module):
    """Masked diffusion language model (LLaDA, arXiv 2502.09992; Dream, arXiv 2508.15487) for inference.

    Build it with `models.load_model`, or from a `ModelConfig` with PyTorch's default random weights.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_eps)
        self.head = Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight
        self._rope: Tensor | None = None

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    def canvas(self, valid: Tensor, gen_length: int = 0, block_length: int = 0, **further: Any) -> Canvas:
        """The canvas of left-padded sequences with real positions ``valid`` (BoolTensor ``[B, T]``).

        ``further`` are attributes of `Canvas` that do not follow from the model, such as ``seeds``.
        """
        config = self.config
        return Canvas(
            valid=valid,
            lengths=valid.sum(dim=1).tolist(),
            positions=(valid.cumsum(dim=1) - 1).clamp_(min=0),
            prompt_length=valid.shape[1] - gen_length,
            gen_length=gen_length,
            block_length=block_length,
            shift=config.shift,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            hidden_size=config.hidden_size,
            dtype=self.dtype,
            **{"window_shift": config.shift, **further},
        )

    def forward(self, ids: Tensor, logit_rows: Tensor) -> Tensor:
        """Differentiable logits ``[M, V]`` of ``logit_rows`` (BoolTensor ``[B, T]``), without padding; for training."""
        step = self._plain_step(ids)
        return self._run(ids, Cache(), logit_rows, step).logits

    @torch.inference_mode()
    def run(
        self,
        ids: Tensor,
        rows: Tensor | None = None,
        cache: Cache | None = None,
        logit_rows: Tensor | None = None,
        step: Step | None = None,
        leave_one_out: Tensor | None = None,
        copies: tuple[Tensor, Tensor] | None = None,
        after_attention: Callable[[], None] | None = None,
        logit_count: int | None = None,
    ) -> Forward:
        """Run ``rows`` of the canvas through the network and apply the head to ``logit_rows``.

        Args:
            ids: LongTensor ``[B, T]``.
            rows: BoolTensor ``[B, T]``, positions to run; None: those of ``step``, by default all valid ones.
            cache: advises the layers, started on the canvas of ``step``; None: no cache.
            logit_rows: BoolTensor ``[B, T]``, a subset of ``rows``; None: all rows that run.
            step: the decoder's state, with its canvas; None: every position is valid and nothing is masked.
            leave_one_out: BoolTensor ``[B, T]``, positions to predict a second time without their own token.
            copies: tokens of copies beside the canvas and the positions whose logits are wanted, as `CopiedRows` takes
                them.
            after_attention: called after the attention of each layer.
            logit_count: number of ``logit_rows``; None: it is read from the device.

        Returns:
            Logits of the logit rows, packed in canvas order, and the work done.
        """
        if step is None:
            step = self._plain_step(ids)
        if cache is None:
            cache = Cache()
        if rows is not None:
            step.rows = Rows.from_mask(rows & step.canvas.valid)
        return self._run(ids, cache, logit_rows, step, leave_one_out, copies, after_attention, logit_count)

    def _plain_step(self, ids: Tensor) -> Step:
        """A step in which every position is valid and nothing is masked."""
        nothing = torch.zeros_like(ids, dtype=torch.bool)
        return Step(self.canvas(~nothing), ids, nothing, nothing)

    def _run(
        self,
        ids: Tensor,
        cache: Cache,
        logit_rows: Tensor | None,
        step: Step,
        leave_one_out: Tensor | None = None,
        copies: tuple[Tensor, Tensor] | None = None,
        after_attention: Callable[[], None] | None = None,
        logit_count: int | None = None,
    ) -> Forward:
        rope, work = Rotation(self._angles(ids.shape[1]), step.canvas.positions), step.work
        x = self.embedding(ids.flatten()[step.rows.index])
        second, copied = None, None
        if leave_one_out is not None:
            second = LeaveOneOutRows(leave_one_out, step, self.embedding, self.config.mask_id)
        if copies is not None:
            copied = CopiedRows(*copies, step, self.embedding)
        beside = second is not None or copied is not None
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            x = cache.enter(index, x, step)
            attn = Attention(index, layer, self.config, step, rope, work, remembers=beside)
            ffn = FeedForward(index, layer, work)
            x = x + cache.attention(index, x, attn, step)
            if after_attention is not None:
                after_attention()
            x = x + cache.feed_forward(index, x, ffn, step)
            if second is not None:
                second.layer(index, attn, ffn, cache, step)
            if copied is not None:
                copied.layer(index, attn, ffn, cache, step)
        if logit_rows is not None:
            flat = logit_rows.flatten()
            found = flat.nonzero() if logit_count is None else torch.nonzero_static(flat, size=logit_count)
            x = x[step.rows.locate(found.squeeze(1))]
        logits = self._head(x, work)
        left_out = None if second is None else self._head(second.x, work)
        return Forward(
            logits, work, left_out, None if copied is None else self._head(copied.x[copied.logit_rows], work)
        )

    def _head(self, x: Tensor, work: Work) -> Tensor:
        """Float32 logits ``[M, V]`` of ``x`` ``[M, D]``."""
        work.logits += x.shape[0]
        work.products(x.shape[0] * self.head.weight.numel())
        return self.head(self.norm(x)).float()

    def _angles(self, length: int) -> Tensor:
        """Cosines and sines ``[2, >= length, E]`` of RoPE, cached and extended for a longer canvas.

        The sines of the first half are negated: the rotation of a head is ``x cos + swap(x) sin``, where ``swap``
        exchanges its halves.
        """
        dtype = torch.float32 if self.config.rope_full_precision else self.dtype
        table = self._rope
        if table is None or table.shape[1] < length or (table.device, table.dtype) != (self.device, dtype):
            with torch.inference_mode(False):  # training may use it later
                half = torch.arange(0, self.config.head_dim, 2, device=self.device, dtype=torch.float32)
                frequency = 1.0 / (self.config.rope_theta ** (half / self.config.head_dim))
                size = 1 << (length - 1).bit_length()
                angle = torch.outer(torch.arange(size, device=self.device, dtype=torch.float32), frequency)
                cos, sin = angle.cos(), angle.sin()
                table = torch.stack((torch.cat((cos, cos), dim=1), torch.cat((-sin, sin), dim=1))).to(dtype)
            self._rope = table
        return table
