"""The layers of the network: their parameters, and their two sub-blocks as a cache calls them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cache_zoo import Rows, Step
from cache_zoo.state import compact
from cache_zoo.work import Work
from models.config import ModelConfig

_MAX_OBSERVED_WEIGHTS = 1 << 24
"""Attention weights in memory while their head mean is computed: 64 MiB in float32."""


class Linear(nn.Linear):
    """Without initial weights on the meta device, where drawing them imports PyTorch's compiler: that takes seconds."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class Embedding(nn.Embedding):
    """The same for embeddings."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class Layer(nn.Module):
    """Parameters of one layer; query, key and value are one projection, gate and up another."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.attention_norm = nn.RMSNorm(width, eps=config.rms_eps)
        self.qkv = Linear(width, sum(config.qkv_sizes), bias=config.qkv_bias)
        self.attention_out = Linear(width, width, bias=False)
        self.feed_forward_norm = nn.RMSNorm(width, eps=config.rms_eps)
        self.gate_up = Linear(width, 2 * inner, bias=False)
        self.down = Linear(inner, width, bias=False)


class Rotation:
    """RoPE for the rows of one forward."""

    def __init__(self, table: Tensor, positions: Tensor) -> None:
        self._table, self._positions = table, positions.flatten()
        self._rows: Rows | None = None

    def turn(self, heads: Tensor, rows: Rows) -> Tensor:
        """Rotate ``heads`` ``[N, H, E]`` of ``rows``."""
        if rows is not self._rows:  # most caches run the same rows in all layers
            self._rows = rows
            self._cos, self._sin = self._table[:, self._positions[rows.index]].unsqueeze(2)
        swapped = heads.roll(heads.shape[2] // 2, dims=2)
        return (heads * self._cos).addcmul_(swapped, self._sin).to(heads.dtype)


@dataclass
class Attention:
    """The attention sub-block of one layer in one forward; implements `cache_zoo.AttentionBlock`.

    With ``remembers``, ``attended`` has the last keys and values ``[B, S, G, E]`` of all visible columns, for
    rows beside the canvas.
    """

    index: int
    layer: Layer
    config: ModelConfig
    step: Step
    rope: Rotation
    work: Work
    remembers: bool = False
    attended: tuple[Tensor, Tensor] | None = None

    def norm(self, x: Tensor) -> Tensor:
        return self.layer.attention_norm(x)

    def project(self, h: Tensor, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        query_key, value = self._linear(h, 0, 3, rows).split(
            [sum(self.config.qkv_sizes[:2]), self.config.qkv_sizes[2]], 1
        )
        return *self._rotated(query_key, rows), self._heads(value)

    def project_aside(self, h: Tensor, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """`project` of rows that are not rows of the canvas."""
        self.work.queries[self.index] += h.shape[0]
        query, key, value = self._heads(self._linear(h, 0, 3)).split(
            [self.config.num_heads, self.config.num_kv_heads, self.config.num_kv_heads], dim=1
        )
        return self.rope.turn(query, rows), self.rope.turn(key, rows), value

    def query(self, h: Tensor, rows: Rows) -> Tensor:
        return self.rope.turn(self._heads(self._linear(h, 0, 1, rows)), rows)

    def query_key(self, h: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        return self._rotated(self._linear(h, 0, 2, rows), rows)

    def key_value(self, h: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        key, value = self._heads(self._linear(h, 1, 3, rows)).chunk(2, dim=1)
        return self.rope.turn(key, rows), value

    def value(self, h: Tensor) -> Tensor:
        return self._heads(self._linear(h, 2, 3))

    def attend(
        self,
        query: Tensor,
        rows: Rows,
        keys: Tensor,
        values: Tensor,
        *,
        mask: Tensor | None = None,
        counts: list[int] | None = None,
    ) -> Tensor:
        if mask is None:
            columns = self.step.columns
            self._require_layout(keys)
            self._remember(keys, values)
            mask = None if columns.mask is None else columns.mask[:, None, None]
            self._count(rows, columns.counts)
            keys, values = keys.transpose(1, 2), values.transpose(1, 2)
        else:
            if keys.shape[1] == self._width:
                self._remember(keys, values)
            if counts is None:
                self._count_mask(rows, mask)
            else:
                self._count(rows, counts)
            keys, values, mask = self._shown(keys.transpose(1, 2), values.transpose(1, 2), mask)
        mixed = F.scaled_dot_product_attention(self._grouped(query, rows), keys, values, attn_mask=mask)
        return self._ungrouped(mixed, rows)

    def attend_observed(self, query: Tensor, rows: Rows, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        columns, config = self.step.columns, self.config
        self._require_layout(keys)
        self._remember(keys, values)
        self._count(rows, columns.counts)
        grouped = self._grouped(query, rows)
        values = values.transpose(1, 2)
        batch, heads, queries, _ = grouped.shape
        mean = query.new_zeros(batch, rows.width, keys.shape[1], dtype=torch.float32)
        mixed = torch.empty_like(grouped)
        at_once = max(1, _MAX_OBSERVED_WEIGHTS // (batch * queries * keys.shape[1]))
        for first in range(0, heads, at_once):
            some = slice(first, first + at_once)
            weights = self._softmax(grouped[:, some], keys[:, :, some])
            mixed[:, some] = torch.matmul(weights.to(values.dtype), values[:, some])
            mean += weights.unflatten(2, (-1, rows.width)).sum(dim=(1, 2))
        return self._ungrouped(mixed, rows), rows.unpad(columns.scatter(mean / config.num_heads))

    def _remember(self, keys: Tensor, values: Tensor) -> None:
        """Hold them if rows beside the canvas need them; memory not freed before the feed-forward block slows it."""
        if self.remembers:
            self.attended = keys, values

    def weights(self, query: Tensor, rows: Rows, keys: Tensor) -> Tensor:
        columns = self.step.columns
        self._require_layout(keys)
        pairs = sum(count * length for count, length in zip(rows.counts, columns.counts, strict=True))
        self.work.products(pairs * query.shape[1] * query.shape[2])
        weights = self._softmax(self._grouped(query, rows), keys).unflatten(2, (-1, rows.width)).flatten(1, 2)
        return rows.unpad(weights.transpose(1, 2))

    def output(self, mixed: Tensor) -> Tensor:
        self.work.products(mixed.shape[0] * self.layer.attention_out.weight.numel())
        return self.layer.attention_out(mixed)

    def _linear(self, h: Tensor, first: int, last: int, rows: Rows | None = None) -> Tensor:
        """Parts ``first`` to ``last`` (exclusive) of the fused projection: query, key, value."""
        sizes = self.config.qkv_sizes
        part = slice(sum(sizes[:first]), sum(sizes[:last]))
        weight, bias = self.layer.qkv.weight[part], self.layer.qkv.bias
        work, number = self.work, h.shape[0]
        work.products(number * weight.numel())
        if rows is not None and first == 0:
            work.queries[self.index] += number
            before = work.rows.get(self.index)
            work.rows[self.index] = rows if before is None else Rows.from_mask(before.mask | rows.mask)
        work.keys_values[self.index] += number * (last - max(first, 1)) / 2
        return F.linear(h, weight, None if bias is None else bias[part])

    def _heads(self, projected: Tensor) -> Tensor:
        """``[N, heads * E]`` to ``[N, heads, E]``."""
        return projected.unflatten(1, (-1, self.config.head_dim))

    def _rotated(self, query_key: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Rotate ``[N, (H + G) * E]``; returns query ``[N, H, E]`` and key ``[N, G, E]``."""
        turned = self.rope.turn(self._heads(query_key), rows)
        query, key = turned.split([self.config.num_heads, self.config.num_kv_heads], dim=1)
        return query, key

    def _softmax(self, grouped: Tensor, keys: Tensor) -> Tensor:
        """Weights, float32 ``[B, G, Q, S]``, of queries ``[B, G, Q, E]`` over ``keys`` ``[B, S, G, E]``."""
        scores = torch.matmul(grouped / math.sqrt(self.config.head_dim), keys.permute(0, 2, 3, 1))
        mask = self.step.columns.mask
        if mask is not None:
            scores.masked_fill_(~mask[:, None, None, :], -torch.inf)
        return scores.softmax(dim=-1, dtype=torch.float32)

    def _shown(self, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values ``[B, G, S, E]`` without those that ``mask`` (see `attend`) hides, and what is left of it."""
        if mask.dim() == 4:
            # a key that some row attends stays for all; 0 times what no row attends must be 0
            hidden = ~mask.any(dim=2).unflatten(1, (keys.shape[1], -1)).any(dim=2).unsqueeze(-1)
            grouped = mask.unflatten(1, (keys.shape[1], -1)).flatten(2, 3)
            return keys.masked_fill(hidden, 0), values.masked_fill(hidden, 0), grouped
        by_head = mask.unsqueeze(1) if mask.dim() == 2 else mask
        index, shown = compact(by_head)
        index = index.unsqueeze(-1).expand(-1, keys.shape[1], -1, keys.shape[3])
        return keys.gather(2, index), values.gather(2, index), None if shown is None else shown.unsqueeze(2)

    def _grouped(self, query: Tensor, rows: Rows) -> Tensor:
        """``[N, H, E]`` to ``[B, G, (H / G) * W, E]``: heads that share keys become queries of one head."""
        padded = rows.pad(query).unflatten(2, (self.config.num_kv_heads, -1))
        return padded.permute(0, 2, 3, 1, 4).flatten(2, 3)

    def _ungrouped(self, mixed: Tensor, rows: Rows) -> Tensor:
        """The inverse of `_grouped` with heads joined, ``[N, H * E]``."""
        return rows.unpad(mixed.unflatten(2, (-1, rows.width)).permute(0, 3, 1, 2, 4).flatten(2))

    @property
    def _width(self) -> int:
        """Columns that attention reads, ``S``."""
        columns = self.step.columns
        return columns.length if columns.index is None else columns.index.shape[1]

    def _require_layout(self, keys: Tensor) -> None:
        if keys.shape[1] != self._width:
            raise ValueError(f"there are {keys.shape[1]} keys for the {self._width} columns of the step; give a mask")

    def _count(self, rows: Rows, keys: list[int]) -> None:
        self._count_pairs(sum(count * length for count, length in zip(rows.counts, keys, strict=True)))

    def _count_mask(self, rows: Rows, mask: Tensor) -> None:
        if mask.dim() == 4:
            places = torch.arange(rows.width, device=mask.device)
            real = places < torch.tensor(rows.counts, device=mask.device)[:, None]
            self._count_pairs(int((mask & real[:, None, :, None]).sum()) / mask.shape[1])
        else:
            shown = mask.sum(dim=-1).float()
            self._count(rows, (shown.mean(dim=1) if mask.dim() == 3 else shown).tolist())

    def _count_pairs(self, pairs: float) -> None:
        self.work.pairs[self.index] += pairs
        self.work.products(2 * pairs * self.config.hidden_size)


@dataclass(frozen=True)
class FeedForward:
    """The gated feed-forward sub-block of one layer in one forward; implements `cache_zoo.FeedForwardBlock`."""

    index: int
    layer: Layer
    work: Work

    def __call__(self, x: Tensor) -> Tensor:
        layer = self.layer
        self.work.feed_forward[self.index] += x.shape[0]
        self.work.products(x.shape[0] * (layer.gate_up.weight.numel() + layer.down.weight.numel()))
        gate, up = layer.gate_up(layer.feed_forward_norm(x)).chunk(2, dim=1)
        return layer.down(F.silu(gate) * up)
