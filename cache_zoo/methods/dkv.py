"""dKV-Cache-Decode, Prefill and PD: keys and values of a token are kept one step after it was committed."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from cache_zoo.base import KVCache
from cache_zoo.errors import require, require_choice
from cache_zoo.state import Canvas, Outcome, Step


class DKVCache(KVCache):
    """Delayed caching: a committed token runs once more, then it is frozen until the next refresh (dKV-Cache, arXiv
    2505.15781).

    All positions that are not frozen run. The released code has one rule per model family:

    * LLaDA counts the forwards of a block. The first two and those at multiples of ``cache_steps`` run everything.
    * Shifted models (Dream) count the forwards of the generation; those at multiples of ``cache_steps`` run everything.
      Row ``j`` predicts token ``j + 1`` and is frozen with it: it stays live as long as that token is masked.

    A revoked token thaws. Variants ``prefill`` and ``pd`` were published for Dream only; for LLaDA they are ours.

    Deviates from the released code: with shifted models the last row, which predicts nothing, is not frozen while its
    token is masked, unless ``wrap`` says so; left padding is masked, not attended (LLaDA).

    Args:
        cache_steps: forwards between refreshes; 1 recomputes everything always.
        variant: ``decode`` freezes the prompt and committed tokens; ``prefill`` the prompt alone, and never refreshes
            it; ``pd`` freezes both, and a refresh leaves the prompt as it is.
        shift_type: with shifted models: ``un`` freezes row ``j`` once token ``j + 1`` is committed; ``un_right`` once
            tokens ``j`` and ``j + 1`` are.
        wrap: with ``shift_type=un``, freeze the last row from the third forward on, as the released code does: its next
            token is, by wrapping around, the first one of the prompt.
    """

    paper = "dKV-Cache, arXiv 2505.15781"
    exact_with: ClassVar[dict[str, Any] | None] = {"cache_steps": 1}

    def __init__(
        self,
        cache_steps: int = 8,
        variant: Literal["decode", "prefill", "pd"] = "decode",
        shift_type: Literal["un", "un_right"] = "un",
        wrap: bool = False,
    ) -> None:
        require(cache_steps >= 1, f"cache parameter 'cache_steps' must be at least 1 (1: no cache), not {cache_steps}")
        require_choice("value of cache parameter 'variant'", variant, ("decode", "prefill", "pd"))
        require_choice("value of cache parameter 'shift_type'", shift_type, ("un", "un_right"))
        self.cache_steps, self.variant, self.shift_type, self.wrap = cache_steps, variant, shift_type, wrap

    def start(self, canvas: Canvas) -> None:
        super().start(canvas)
        self._live = canvas.valid

    def rows(self, step: Step) -> Tensor | None:
        canvas = step.canvas
        if step.index == 0:
            return None
        response = (canvas.columns >= canvas.prompt_length - canvas.shift).expand(canvas.shape)
        if self.variant == "prefill":
            return response
        forwards = [step.index] * canvas.shape[0] if canvas.shift else step.block_step
        due = [n % self.cache_steps == 0 or (n == 1 and not canvas.shift) for n in forwards]
        everything = response if self.variant == "pd" else canvas.valid
        return torch.where(torch.tensor(due, device=canvas.device).unsqueeze(1), everything, self._live)

    def end_step(self, step: Step, outcome: Outcome) -> None:
        # what was masked before this forward runs in the next one, and so does every other token that changed
        pending = step.masked | outcome.changed
        self._live = pending
        if step.canvas.shift:
            self._live = self._predicting(pending) | (outcome.changed & ~step.masked)
            if self.wrap and step.index > 0:
                self._live[:, -1] = False

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        self._live = self._live[kept]

    def _predicting(self, pending: Tensor) -> Tensor:
        """Live rows of a shifted model, where the tokens ``pending`` are masked or just committed; ``[B, T]``."""
        live = pending.roll(-1, dims=1)
        live[:, -1] = pending[:, -1]
        if self.shift_type == "un_right":
            live |= pending
            live[:, -1] = live[:, -2]
        return live
