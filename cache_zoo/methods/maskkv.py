"""MaskKV: each head keeps the prompt keys that the masked positions attend to most."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cache_zoo.base import Cache, KVCache
from cache_zoo.blocks import AttentionBlock
from cache_zoo.errors import require
from cache_zoo.methods.budgets import apportion, head_shares, layer_shares
from cache_zoo.methods.kept import attend_kept, slot_canvas
from cache_zoo.rows import Ranges, Rows
from cache_zoo.state import Canvas, Outcome, Step
from cache_zoo.stores import Store, make_store


class MaskKVCache(KVCache):
    """Prompt eviction by the votes of mask tokens (MaskKV, arXiv 2510.09309, section 3.3; no code is published).

    The first forward runs every row. In each layer and key head, the masked rows vote for prompt columns with their
    attention weights, and the columns with the most votes keep their keys and values. The rest of the prompt is never
    attended again, and no prompt row runs again; all rows of the response run in every forward. ``budget`` keys per
    layer and head are divided

    * among layers: ``alpha * budget`` to each; what is left goes to two groups, boundary and middle layers, in
      proportion to the group sums of ``1 - mean cos(x, x + attention(x))``, and equally within a group;
    * among the heads of a layer: the share ``beta`` equally, the rest in proportion to the part of the masked rows'
      attention that falls on the prompt, of what falls on prompt and masks;
    * in whole numbers by largest remainders; what would exceed the prompt goes to the other heads.

    Not specified, and chosen here: the defaults of all parameters; boundary layers are the first and last quarter,
    rounded up; heads that share keys vote together; the prompt is never refreshed and the response always is (the
    paper builds on dLLM-Cache and does not say what a refresh does to evicted keys).

    Deviates from the paper: the layer statistic comes from the first forward of each sequence, not from a calibration
    set, so the whole prompt is held until the end of that forward. With shifted models (Dream) the last prompt row,
    which predicts the first generated token, belongs to the response.

    Args:
        budget: prompt keys per layer and head on average, at least 1; the whole prompt if it is not longer.
        alpha: share of the budget that every layer gets, in [0, 1].
        beta: share of a layer's budget that every head gets, in [0, 1].
    """

    paper = "MaskKV, arXiv 2510.09309"
    keeps_columns = False

    def __init__(self, budget: int = 256, alpha: float = 0.5, beta: float = 0.5) -> None:
        require(budget >= 1, f"cache parameter 'budget' must be at least 1, not {budget}")
        require(0 <= alpha <= 1, f"cache parameter 'alpha' must be between 0 and 1, not {alpha}")
        require(0 <= beta <= 1, f"cache parameter 'beta' must be between 0 and 1, not {beta}")
        self.budget, self.alpha, self.beta = budget, alpha, beta

    def start(self, canvas: Canvas) -> None:
        Cache.start(self, canvas)
        self._seen: list[tuple[Tensor, ...]] = []  # per layer: keys and values of the prompt, votes, preference, change
        self._kept: list[tuple[Store, Tensor]] = []  # per layer: slots, and which of them are in use, [B, G, K]

    def rows(self, step: Step) -> Ranges | None:
        canvas = step.canvas
        if step.index == 0:
            return None
        return [(_response_start(canvas), canvas.shape[1])] * canvas.shape[0]

    def attention(self, layer: int, x: Tensor, attn: AttentionBlock, step: Step) -> Tensor:
        rows = step.rows
        query, key, value = attn.project(attn.norm(x), rows)
        if step.index > 0:
            store, used = self._kept[layer]
            slots = slot_canvas(step.canvas, 1, used.shape[2]).all_columns
            return attn.output(attend_kept(attn, query, rows, store.read(0, slots), used, (key, value)))
        keys, values = (step.columns.gather(rows.scatter(packed)) for packed in (key, value))
        out = attn.output(attn.attend(query, rows, keys, values))
        voters = Rows.from_mask(step.masked & rows.mask)
        weights = attn.weights(query[rows.locate(voters.index)], voters, keys)  # [M, H, S]
        votes = step.columns.scatter(voters.pad(weights).sum(dim=1)).unflatten(1, (key.shape[1], -1)).sum(dim=2)
        prompt = (step.canvas.valid & (step.canvas.columns < _response_start(step.canvas))).unsqueeze(1)
        votes, on_masks = votes.masked_fill(~prompt, 0), (votes * step.masked.unsqueeze(1)).sum(dim=2)
        preference = votes.sum(dim=2) / (votes.sum(dim=2) + on_masks)
        change = rows.pad(1 - F.cosine_similarity(x.float(), (x + out).float(), dim=1)).sum(dim=1)
        end = step.canvas.prompt_length
        held = [rows.scatter(packed)[:, :end].clone() for packed in (key, value)]
        votes = votes[:, :, :end].masked_fill(~prompt[:, :, :end], -torch.inf)
        self._seen.append((*held, votes, preference, change / torch.tensor(rows.counts, device=x.device)))
        return out

    def end_step(self, step: Step, outcome: Outcome) -> None:
        if step.index > 0:
            return
        canvas = step.canvas
        votes, preference, change = (torch.stack(seen, dim=1) for seen in list(zip(*self._seen, strict=True))[2:])
        shares = layer_shares(change, self.alpha).unsqueeze(2) * head_shares(preference, self.beta)
        budgets = []
        for lengths, share in zip(canvas.lengths, shares.flatten(1).tolist(), strict=True):
            prompt = lengths - canvas.gen_length - canvas.window_shift
            budgets.append(apportion(share, min(self.budget, prompt) * len(share), prompt))
        sizes = torch.tensor(budgets, device=canvas.device).view(preference.shape)  # [B, L, G]
        for layer, (keys, values, *_) in enumerate(self._seen):
            slots = slot_canvas(canvas, 1, int(sizes[:, layer].max()))
            best = votes[:, layer].sort(dim=2, descending=True, stable=True).indices[:, :, : slots.shape[1]]
            index = best.transpose(1, 2).unsqueeze(3).expand(-1, -1, -1, keys.shape[3])  # [B, K, G, E]
            store = make_store(slots)
            store.write(0, slots.all_rows, keys.gather(1, index).flatten(0, 1), values.gather(1, index).flatten(0, 1))
            used = torch.arange(slots.shape[1], device=canvas.device) < sizes[:, layer].unsqueeze(2)
            self._kept.append((store, used))
        self._seen = []

    def drop_finished(self, kept: Tensor) -> None:
        for store, _ in self._kept:
            store.keep(kept)
        self._kept = [(store, used[kept]) for store, used in self._kept]


def _response_start(canvas: Canvas) -> int:
    """First column whose row always runs: that of the generated part, or the row before, which predicts it."""
    return canvas.prompt_length - canvas.window_shift
