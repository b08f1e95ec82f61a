"""Decoding a pruned canvas the plain way, for tests: gather the visible columns and forward them with their positions.

It uses the weights of the model, and none of the code that runs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from models import Transformer

Stored = list[tuple[Tensor, Tensor]]
"""Rotated keys and values ``[n, G, E]`` of the visible columns, per layer."""


def plain_forward(
    model: Transformer, ids: Tensor, positions: Tensor, rows: Tensor, stored: Stored | None
) -> tuple[Tensor, Stored]:
    """Logits of ``rows`` (indices into the visible columns), and the keys and values of all columns.

    Args:
        model: gives the weights.
        ids: LongTensor ``[n]``, tokens of the visible columns.
        positions: LongTensor ``[n]``, their position ids.
        rows: LongTensor ``[m]``; the keys and values of the other columns are those of ``stored``.
        stored: None if every column is among the rows.
    """
    config, new = model.config, []
    heads, groups, width = config.num_heads, config.num_kv_heads, config.head_dim
    x = model.embedding.weight[ids[rows]]
    for number, layer in enumerate(model.layers):
        h = F.rms_norm(x, (x.shape[1],), layer.attention_norm.weight, config.rms_eps)
        q, k, v = F.linear(h, layer.qkv.weight, layer.qkv.bias).split(config.qkv_sizes, dim=1)
        q = rotated(q.view(-1, heads, width), positions[rows], config.rope_theta)
        k, v = rotated(k.view(-1, groups, width), positions[rows], config.rope_theta), v.view(-1, groups, width)
        if stored is not None:
            k, v = (old.index_copy(0, rows, fresh) for old, fresh in zip(stored[number], (k, v), strict=True))
        new.append((k, v))
        k, v = (part.repeat_interleave(heads // groups, dim=1) for part in (k, v))
        weights = (torch.einsum("mhe,nhe->hmn", q, k) / math.sqrt(width)).softmax(dim=-1)
        x = x + F.linear(torch.einsum("hmn,nhe->mhe", weights, v).flatten(1), layer.attention_out.weight)
        h = F.rms_norm(x, (x.shape[1],), layer.feed_forward_norm.weight, config.rms_eps)
        gate, up = F.linear(h, layer.gate_up.weight).chunk(2, dim=1)
        x = x + F.linear(F.silu(gate) * up, layer.down.weight)
    x = F.rms_norm(x, (x.shape[1],), model.norm.weight, config.rms_eps)
    return F.linear(x, model.head.weight), new


def rotated(heads: Tensor, positions: Tensor, theta: float) -> Tensor:
    """RoPE of ``heads`` ``[m, H, E]`` as complex products: lane ``i`` is paired with lane ``i + E / 2``."""
    half = heads.shape[2] // 2
    angle = positions[:, None, None] * theta ** (-torch.arange(half) / half)
    turned = torch.complex(heads[..., :half], heads[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat((turned.real, turned.imag), dim=2)


@dataclass
class Plain:
    """What the plain loop decoded, and its work.

    Attributes:
        tokens: the generated part.
        nfe: forwards.
        rows, pairs: rows that ran, and query-key pairs of one head and layer.
    """

    tokens: list[int] = field(default_factory=list)
    nfe: int = 0
    rows: int = 0
    pairs: int = 0


def plain_decode(
    model: Transformer,
    prompt: list[int],
    gen_length: int,
    block_length: int,
    visible: Callable[[int], list[int]],
    frozen: str = "nothing",
    threshold: float = 2.0,
) -> Plain:
    """Decode one sequence, block by block, on the columns that are visible in each block.

    Args:
        model: of either family.
        prompt, gen_length, block_length: as in `generation.generate`.
        visible: the columns of a block, ascending; position ids are columns, as there is no padding.
        frozen: ``nothing``, what is ``before`` the block, or what is ``outside`` it, after the block's first forward.
        threshold: commits all tokens of this confidence, and at least the best.
    """
    config, shift, out = model.config, model.config.shift, Plain()
    ids = torch.tensor([*prompt, *[config.mask_id] * gen_length])
    for block in range(gen_length // block_length):
        start = len(prompt) + block * block_length
        end, stored = start + block_length, None
        columns = torch.tensor(visible(block))
        while (masked := (ids[start:end] == config.mask_id).nonzero().flatten() + start).numel():
            rows = torch.arange(len(columns))
            if stored is not None:
                last = end if frozen == "outside" else len(ids)
                rows = rows[(columns >= start - shift) & (columns < last - shift)]
            logits, known = plain_forward(model, ids[columns], columns, rows, stored)
            stored = None if frozen == "nothing" else known
            of_masks = logits[torch.searchsorted(columns[rows], masked - shift)]
            probability = of_masks.softmax(dim=1)
            probability[:, config.mask_id] = 0
            confidence, tokens = probability.max(dim=1)
            commit = (confidence >= threshold) | (torch.arange(len(masked)) == confidence.argmax())
            ids[masked[commit]] = tokens[commit]
            out.nfe, out.rows, out.pairs = out.nfe + 1, out.rows + len(rows), out.pairs + len(rows) * len(columns)
    out.tokens = ids[len(prompt) :].tolist()
    return out
