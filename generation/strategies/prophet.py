"""Prophet: everything at once, as soon as the answer is certain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cache_zoo.errors import require, require_type, shown
from generation.options import RULES, GenerationOptions
from generation.selection import block_forwards
from generation.strategies.ranked import UNRANKED_ALGS, RankedStrategy
from generation.strategies.strategy import Board, Edit, Plan, View, refuse_options


class Prophet(RankedStrategy):
    """Commit all masks with the tokens of this forward once the answer's place has a clear winner in every position.

    The gap between the two highest logits, a mean over ``answer_length`` positions from ``answer_start`` on, written or
    not, must reach a limit that falls with the schedule: ``early`` in its first third, ``mid`` in the second, ``late``
    (Prophet, arXiv 2508.19982, section 4). Logits are those before temperature and filters. Until then the schedule
    decides. A forward decides only if the logits of all masks and of these positions are computed in it: with a cache
    that is a forward of all rows.

    Args:
        options: of the generation.
        early, mid, late: least gap, in logits.
        answer_start: offset of the answer in the generated part; null: two behind the last of ``constraints``, and
            without any the schedule decides to the end.
        answer_length: positions of the answer, at least 1; those behind the canvas are left out.
        constraints: tokens that are there from the beginning, such as the words that lead to the answer: an object of
            offsets and token ids.
    """

    paper = "Prophet, arXiv 2508.19982"
    needs_logits = True

    def __init__(
        self,
        options: GenerationOptions,
        early: float = 7.5,
        mid: float = 5.0,
        late: float = 2.5,
        answer_start: int | None = None,
        answer_length: int = 5,
        constraints: Mapping[Any, Any] | None = None,
    ) -> None:
        name, length = "strategy parameter", options.gen_length
        require_type(f"{name} 'answer_start'", answer_start, int, optional=True)
        require_type(f"{name} 'constraints'", constraints, dict, optional=True)
        self.fixed_tokens = {_number(key): _number(value) for key, value in (constraints or {}).items()}
        for offset in self.fixed_tokens:
            require(0 <= offset < length, f"{name} 'constraints' has offset {offset} outside of gen_length {length}")
        if answer_start is None and self.fixed_tokens:
            answer_start = min(max(self.fixed_tokens) + 2, length - 1)
        require(
            answer_start is None or 0 <= answer_start < length,
            f"{name} 'answer_start' must be at least 0 and less than gen_length, {length}, not {shown(answer_start)}",
        )
        require(answer_length >= 1, f"{name} 'answer_length' must be at least 1, not {answer_length}")
        refuse_options(options, "which has a rule of its own", *RULES, *UNRANKED_ALGS)
        super().__init__(options)
        self.fixed = sorted(self.fixed_tokens)
        self.limits = early, mid, late
        self.answer = None if answer_start is None else slice(answer_start, min(answer_start + answer_length, length))

    def start(self, board: Board) -> Edit | None:
        super().start(board)
        if not self.fixed:
            return None
        ids = board.ids.clone()
        for offset, token in self.fixed_tokens.items():
            ids[:, offset] = token
        return Edit(ids)

    def plan(self, board: Board) -> Plan:
        plan = super().plan(board)
        if self.answer is None:
            return plan
        self._open, wanted = board.open, board.open.clone()
        wanted[:, self.answer] = True
        return replace(plan, logits=wanted)

    def decide(self, view: View) -> Tensor | Edit:
        chosen = self.commit(view)
        if self.answer is None:
            return chosen
        open_ = self._open.to(chosen.device)
        certain = (self._gap(view) >= self._limits(view).to(chosen.device)) & ~(open_ & ~view.live).any(dim=1)
        return Edit(torch.where(torch.where(certain[:, None], open_, chosen), view.tokens, view.ids))

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        if self.answer is not None:
            self._open = self._open[kept.cpu()]

    def _gap(self, view: View) -> Tensor:
        """Mean gap of the answer's positions, ``[B]``; minus infinity where the logits of one are missing."""
        assert view.logits is not None
        places = torch.zeros_like(view.live)
        places[:, self.answer] = True
        best = view.logits[(places & view.live)[view.live]].topk(2, dim=1).values
        gap = torch.full(places.shape, -torch.inf, device=best.device)
        gap[places & view.live] = best[:, 0] - best[:, 1]
        return gap[:, self.answer].mean(dim=1)

    def _limits(self, view: View) -> Tensor:
        """The gap that each sequence needs, by the share of the schedule that this forward completes, ``[B]``."""
        schedule = self.options
        if schedule.steps is None:
            of_block = -(-schedule.block // schedule.num_transfer_tokens)
        else:
            of_block = block_forwards(schedule)
        done = [region.block * of_block + step + 1 for region, step in zip(view.regions, view.block_step, strict=True)]
        share = torch.tensor(done, dtype=torch.float64) / (of_block * (schedule.gen_length // schedule.block))
        early, mid, late = torch.tensor(self.limits)
        return torch.where(share < 0.33, early, torch.where(share < 0.67, mid, late))


def _number(value: object) -> int:
    """An offset or a token id, which files may hold as text."""
    text = str(value)
    require(text.isdecimal(), f"strategy parameter 'constraints' holds {shown(value)}, which is no offset or token id")
    return int(text)
