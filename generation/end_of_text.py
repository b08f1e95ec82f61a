"""When a sequence ends before its canvas is full: the rules about the end-of-sequence token (EOS)."""

from __future__ import annotations

import torch
from torch import Tensor

from cache_zoo import Canvas, Step

UNTIL = "until"
_ENDING = (UNTIL, "drop", "cut")
"""Rules under which nothing behind the end is decoded."""


class EndOfText:
    """One rule for the sequences of a batch; canvas ``[B, T]``.

    * ``until``: a sequence is finished once everything before its first EOS is committed; masks behind it stay.
    * ``block``: a complete block that holds EOS ends the text; everything behind the block becomes EOS (Streaming-dLLM,
      arXiv 2601.17917; DPad, arXiv 2508.14148; dInfer, arXiv 2510.08666).
    * ``drop``: masks behind the first EOS that is committed are no longer decoded; they become EOS when everything
      before is committed. EOS tokens that follow change nothing (Elastic-Cache, arXiv 2510.14973).
    * ``cut``: the same, but these masks stay, as in Elastic-Cache's script.
    * ``fill``: everything behind the first EOS becomes EOS at once (FreeCache, arXiv 2505.21467).
    """

    def __init__(self, rule: str | None, eos_id: int, ids: Tensor) -> None:
        self.rule, self._eos_id = rule, eos_id
        self._end = torch.full_like(ids[:, :1], ids.shape[1])  # column of the EOS that counts

    def open(self, masked: Tensor, canvas: Canvas) -> Tensor:
        """The positions of ``masked`` (BoolTensor ``[B, T]``) that are still to commit."""
        return masked & (canvas.columns < self._end) if self.rule in _ENDING else masked

    def apply(self, ids: Tensor, masked: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Tokens and masked positions behind the forward ``step``, after the rule has been applied to them."""
        if self.rule is None:
            return ids, masked
        columns, canvas = step.canvas.columns, step.canvas
        eos = (ids == self._eos_id) & (columns >= canvas.prompt_length)
        first = torch.where(eos, columns, canvas.shape[1]).amin(dim=1, keepdim=True)
        if self.rule == "fill":
            behind = columns > first
        elif self.rule == "block":
            inside = first < step.block_end[: ids.shape[0]]
            complete = ~(masked & step.block[: ids.shape[0]]).any(dim=1, keepdim=True)
            behind = inside & complete & masked
        else:
            self._end = first if self.rule == UNTIL else torch.where(self._holds(ids), self._end, first)
            if self.rule != "drop":
                return ids, masked
            behind = masked & ~self.open(masked, canvas).any(dim=1, keepdim=True)
        return torch.where(behind, self._eos_id, ids), masked & ~behind

    def _holds(self, ids: Tensor) -> Tensor:
        """Whether the token that ended the text is still there, BoolTensor ``[B, 1]``: a strategy may revoke it."""
        width = ids.shape[1]
        return (self._end < width) & (ids.gather(1, self._end.clamp(max=width - 1)) == self._eos_id)

    def keep(self, kept: Tensor) -> None:
        """Keep the sequences ``kept``."""
        self._end = self._end[kept]
