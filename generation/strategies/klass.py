"""KLASS: tokens that are likely and whose distribution has stopped to change."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cache_zoo.errors import require, require_choice
from generation.options import RULES, GenerationOptions
from generation.sampling import uniform_of
from generation.strategies.lines import Lines
from generation.strategies.ranked import UNRANKED_ALGS, RankedStrategy
from generation.strategies.strategy import Board, Plan, View, refuse_options

CHOICES = ("all", "max_conf", "min_kl", "random")


class Klass(RankedStrategy):
    """Commit every token of high probability whose distribution was nearly the same in the last forwards.

    Stable is a position whose last ``history`` Kullback-Leibler divergences from one forward to the next are all below
    ``kl_threshold`` (KLASS, arXiv 2511.05664, section 4). If no candidate is stable and likely, the most confident ones
    are committed, as many as ``num_transfer_tokens`` or ``steps`` say, and at least one. Distributions are those of the
    model, before temperature and filters.

    Deviates from the released code, in which no position is stable before forward ``history`` of its block, however
    long it has been (``guard=block``), and where ``alg=entropy`` takes the least certain tokens.

    Args:
        options: of the generation.
        conf_threshold: least probability of a token, in [0, 1].
        kl_threshold: the divergence in nats must be lower; 0: nothing is ever stable.
        history: divergences that must be, at least 1.
        unmask: which of these tokens are committed: ``all``, or one, the likeliest (``max_conf``), the most stable
            (``min_kl``) or any (``random``).
        guard: a position may be stable as soon as there are ``history`` divergences of it (``history``), or not before
            as many forwards of its block either (``block``, LLaDA's released loop).
    """

    paper = "KLASS, arXiv 2511.05664"
    needs_logits = True

    def __init__(
        self,
        options: GenerationOptions,
        conf_threshold: float = 0.9,
        kl_threshold: float = 0.01,
        history: int = 2,
        unmask: str = "all",
        guard: str = "history",
    ) -> None:
        name = "strategy parameter"
        require(0 <= conf_threshold <= 1, f"{name} 'conf_threshold' must be between 0 and 1, not {conf_threshold}")
        require(kl_threshold >= 0, f"{name} 'kl_threshold' must not be negative, not {kl_threshold}")
        require(history >= 1, f"{name} 'history' must be at least 1, not {history}")
        require_choice(f"value of {name} 'unmask'", unmask, CHOICES)
        require_choice(f"value of {name} 'guard'", guard, ("history", "block"))
        super().__init__(options, counted=False)
        refuse_options(options, "which has a rule of its own", *RULES, *UNRANKED_ALGS)
        self.conf_threshold, self.kl_threshold, self.history = conf_threshold, kl_threshold, history
        self.unmask, self.guard = unmask, guard

    def start(self, board: Board) -> None:
        super().start(board)
        self._last: Lines | None = None  # log-probabilities
        self._kl = torch.full((*board.masked.shape, self.history), torch.inf)

    def plan(self, board: Board) -> Plan:
        """With the distributions of the blocks that the history of these forwards may reach."""
        plan, width = super().plan(board), self.options.block
        ends = [0 if region is None else region.end + self.history * width for region in plan.regions]
        columns = torch.arange(board.open.shape[1])
        return replace(plan, logits=board.open & (columns < torch.tensor(ends)[:, None]))

    def commit(self, view: View) -> Tensor:
        assert view.logits is not None
        log_p = view.logits.log_softmax(dim=1)
        self._remember(log_p, view)
        probability = view.spread(log_p.gather(1, view.tokens[view.live][:, None]).squeeze(1).exp())
        ready = view.eligible & (probability >= self.conf_threshold) & self._stable(view)
        if self.unmask != "all":
            best = self._preference(probability, view).masked_fill(~ready, -torch.inf).argmax(dim=1, keepdim=True)
            ready &= torch.zeros_like(ready).scatter_(1, best, True)
        return torch.where(ready.any(dim=1, keepdim=True), ready, super().commit(view))

    def drop_finished(self, kept: Tensor) -> None:
        super().drop_finished(kept)
        self._last = None if self._last is None else self._last.keep(kept)
        self._kl = self._kl[kept.to(self._kl.device)]

    def _stable(self, view: View) -> Tensor:
        """Positions whose distribution has stopped to change, BoolTensor ``[B, G]``."""
        stable = (self._kl < self.kl_threshold).all(dim=2)
        if self.guard == "block":
            stable &= torch.tensor(view.block_step, device=stable.device)[:, None] >= self.history - 1
        return stable

    def _preference(self, probability: Tensor, view: View) -> Tensor:
        """What decides between stable tokens where one is committed, ``[B, G]``."""
        if self.unmask != "random":
            return probability if self.unmask == "max_conf" else -self._kl[..., -1]
        numbers = zip(view.seeds, self._forwards, strict=True)
        drawn = [uniform_of([seed], probability.shape[1], f"klass {forwards}") for seed, forwards in numbers]
        return torch.cat(drawn).to(probability.device)

    def _remember(self, log_p: Tensor, view: View) -> None:
        """Add the divergences of this forward: infinite where one of the two distributions is missing."""
        now = Lines(view.live, log_p)
        kl = torch.full(view.live.shape, torch.inf, device=log_p.device)
        if self._last is not None:
            both = self._last.places & view.live
            new, old = now.at(both), self._last.at(both)
            kl[both] = (new.exp() * (new - old)).sum(dim=1).clamp(min=0)  # rounding may leave less
        self._kl = torch.cat((self._kl.to(log_p.device)[..., 1:], kl[..., None]), dim=2)
        self._last = now
