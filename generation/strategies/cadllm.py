"""CadLLM: the confidence so far decides blocks, steps, threshold and the tokens that are compared."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isnan

import torch
from torch import Tensor

from cache_zoo.errors import require, require_choice
from generation.options import GenerationOptions
from generation.selection import commit_best
from generation.strategies.strategy import Board, Plan, Region, Strategy, View, refuse_options

_STRICT, _LAX = 0.85, 0.4
"""The threshold in the first forward of a block and after all of its steps."""
_OTHER_RULES = "steps alpha frechet gamma debias sigma alg alg_temp first_forward confidence_eos_eot_inf".split()


@dataclass
class _Sequence:
    """What is remembered of a sequence.

    Attributes:
        confidence: mean confidence of the masks of the block, of all forwards so far.
        tokens: the last tokens written, at most 8.
        steps: of the current block.
        gaps: mean lead of the likeliest token, of the forwards of the block but the first.
    """

    confidence: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    steps: int = 1
    gaps: list[float] = field(default_factory=list)

    def recent(self) -> float:
        """Mean of the last two confidences, in single precision."""
        return torch.tensor(self.confidence[-2:]).mean().item()


class CadLLM(Strategy):
    """Confidence-adaptive decoding (CadLLM, arXiv 2512.07173, section 3).

    With ``m``, the mean confidence of the last two forwards, and ``S`` the steps of a block:

    * a block has ``min_block + (max_block - min_block) m`` positions, the first one ``block_length``;
    * ``S`` is ``initial_steps + (max_steps - initial_steps)(1 - m)``, in proportion to its length;
    * its forward ``i`` commits what has at least the confidence ``0.85 (1 - i / S) + 0.4 i / S``, and never less than
      0.4, unless ``threshold`` or ``factor`` are given, and always the best;
    * confidences are soft-maxed over the ``k`` largest logits alone: many at first, fewer in the middle, more where
      confidence is low or falls or the last four tokens are one token.

    With ``early_exit`` a block is committed whole once its confidence and its lead over the second token have been high
    in several forwards.

    Deviates from the released code: where a block is committed whole, that is done in the forward that finds it out,
    not in another one that computes the same. Its shorter repetitions than four equal tokens have no effect there, and
    are not looked for here.

    Args:
        options: of the generation; ``block_length`` is that of the first block, and need not divide ``gen_length``.
        min_block: fewest positions of a block.
        max_block: most positions of a block.
        initial_steps: fewest steps of a block as long as the first.
        max_steps: most steps of such a block.
        confidence: ``softmax``, the share of the token, or ``entropy``, ``1 / (1 + entropy)`` of the ``k`` tokens.
        adaptive_blocks: false: all blocks have ``block_length`` positions.
        adaptive_steps: false: all blocks have ``initial_steps`` steps.
        adaptive_threshold: false: without ``threshold`` and ``factor`` the steps share out the block evenly.
        adaptive_top_k: false: ``k`` is 100, and 15 with ``factor``.
        repetition: a repeated token makes ``k`` larger.
        early_exit: commit a block whole once it is sure.
        exit_gap: least mean lead in probability for that, over all positions of the block.
        exit_confidence: least mean confidence for that.
        exit_patience: forwards in a row that must be above both.
    """

    paper = "CadLLM, arXiv 2512.07173"
    needs_logits = True
    equal_blocks = False

    def __init__(
        self,
        options: GenerationOptions,
        min_block: int = 4,
        max_block: int = 64,
        initial_steps: int = 24,
        max_steps: int = 90,
        confidence: str = "softmax",
        adaptive_blocks: bool = True,
        adaptive_steps: bool = True,
        adaptive_threshold: bool = True,
        adaptive_top_k: bool = True,
        repetition: bool = True,
        early_exit: bool = False,
        exit_gap: float = 0.3,
        exit_confidence: float = 0.6,
        exit_patience: int = 2,
    ) -> None:
        ranges = {"min_block": (min_block, 1), "max_block": (max_block, min_block), "initial_steps": (initial_steps, 1)}
        ranges |= {"max_steps": (max_steps, initial_steps), "exit_patience": (exit_patience, 1)}
        for name, (value, least) in ranges.items():
            require(value >= least, f"strategy parameter '{name}' must be at least {least}, not {value}")
        require_choice("strategy parameter 'confidence'", confidence, ("softmax", "entropy"))
        refuse_options(options, "which has steps and confidences of its own", *_OTHER_RULES)
        super().__init__(options)
        self.counted = False
        self.min_block, self.max_block, self.adaptive_blocks = min_block, max_block, adaptive_blocks
        self.initial_steps, self.max_steps, self.adaptive_steps = initial_steps, max_steps, adaptive_steps
        self.confidence, self.adaptive_top_k, self.repetition = confidence, adaptive_top_k, repetition
        self.early_exit, self.exit_gap = early_exit, exit_gap
        self.exit_confidence, self.exit_patience = exit_confidence, exit_patience
        self._own_threshold = options.counted and adaptive_threshold
        self._shares = options.counted and not adaptive_threshold
        self._rule = replace(options, threshold=_STRICT) if self._own_threshold else options

    def start(self, board: Board) -> None:
        self._sequences = [_Sequence() for _ in board.seeds]

    def drop_finished(self, kept: Tensor) -> None:
        self._sequences = [self._sequences[b] for b in kept.tolist()]

    def plan(self, board: Board) -> Plan:
        regions = [self._region(board, b) if some else None for b, some in enumerate(board.open.any(dim=1).tolist())]
        if not self.early_exit:
            return Plan(regions)
        written = torch.zeros_like(board.masked)
        for b, region in enumerate(regions):
            if region is not None:
                written[b, region.start : region.end] = ~board.masked[b, region.start : region.end]
        return Plan(regions, logits=written)

    def _region(self, board: Board, b: int) -> Region:
        before = Region(-1, 0, 0) if board.regions is None else board.regions[b]
        if board.open[b, before.start : before.end].any():
            return before
        of, options, start = self._sequences[b], self.options, int(board.open[b].int().argmax())
        length = options.block
        if self.adaptive_blocks:
            if of.confidence:
                length = self.min_block + int((self.max_block - self.min_block) * of.recent())
            length = max(self.min_block, min(length, self.max_block))
        length = min(length, options.gen_length - start)
        of.steps, of.gaps = self.initial_steps, []
        if self.adaptive_steps and of.confidence:
            further = int((self.max_steps - self.initial_steps) * (1 - min(max(of.recent(), 0.0), 1.0)))
            of.steps = max(1, int((self.initial_steps + further) * length / options.block))
        return Region(before.block + 1, start, start + length)

    def commit(self, view: View) -> Tensor:
        device = view.confidence.device
        score = self._score(view)
        number = view.eligible.sum(dim=1)
        means = ((score * view.eligible).sum(dim=1) / number).tolist()
        threshold, least = None, torch.full_like(number, self.options.num_transfer_tokens)
        spent = list(zip(self._sequences, view.regions, view.block_step, strict=True))
        if self._own_threshold:
            limits = [max(_STRICT * (1 - i / of.steps) + _LAX * i / of.steps, _LAX) for of, _, i in spent]
            threshold = torch.tensor(limits, dtype=score.dtype, device=device)
        elif self._shares:
            shares = [(divmod(region.end - region.start, of.steps), i) for of, region, i in spent]
            least = torch.tensor([max(1, base + (i < rest)) for (base, rest), i in shares], device=device)
        chosen = commit_best(score, view.eligible, least, self._rule, threshold)
        for of, mean in zip(self._sequences, means, strict=True):
            if not isnan(mean):  # some mask of the block was predicted
                of.confidence.append(mean)
        sure = self._sure(view) if self.early_exit else [False] * len(means)
        if self.repetition:
            written = [row[picked].tolist() for row, picked in zip(view.tokens.cpu(), chosen.cpu(), strict=True)]
            for of, tokens, whole in zip(self._sequences, written, sure, strict=True):
                of.tokens = of.tokens if whole else [*of.tokens, *tokens][-8:]
        return torch.where(torch.tensor(sure, device=device)[:, None], view.eligible, chosen)

    def _score(self, view: View) -> Tensor:
        """Confidences over each sequence's ``k`` largest logits, float64 ``[B, G]``."""
        assert view.logits is not None
        logits = view.logits
        if self.options.logits_eos_inf and view.eos_id is not None:
            logits = logits.index_fill(1, torch.tensor([view.eos_id], device=logits.device), -torch.inf)
        each = zip(self._sequences, view.regions, view.block_step, strict=True)
        widths = [min(self._width(*one), logits.shape[1]) for one in each]
        width = torch.tensor(widths, device=logits.device).repeat_interleave(view.live.sum(dim=1))[:, None]
        best = logits.topk(max(widths), dim=1).values.double()
        least = best.gather(1, width - 1)
        best = best.masked_fill(torch.arange(best.shape[1], device=best.device) >= width, -torch.inf)
        if self.confidence == "entropy":
            share = best.softmax(dim=1)
            return view.spread(1 / (1 - (share * (share + 1e-12).log()).sum(dim=1)))
        token = logits.gather(1, view.tokens[view.live][:, None]).double()
        share = (token - best.logsumexp(dim=1, keepdim=True)).exp()
        return view.spread(torch.where(token >= least, share, 0).squeeze(1))

    def _width(self, of: _Sequence, region: Region, forward: int) -> int:
        """The number ``k`` of logits that a sequence compares in a forward of its block."""
        usual, least, most = (100, 35, 1000) if self.options.factor is None else (15, 5, 35)
        if not self.adaptive_top_k:
            return usual
        done = (region.start + forward / of.steps * (region.end - region.start)) / self.options.gen_length
        width = 0.8 * most if done < 0.2 else (0.7 if done < 0.7 else 0.9) * usual
        if of.confidence:
            recent = of.confidence[-5:]
            mean = sum(recent) / len(recent)
            width *= 1.5 if mean < 0.3 else 1.2 if mean < 0.6 else 0.8 if mean > 0.8 else 1.0
            falls = len(of.confidence) > 2 and of.confidence[-1] - of.confidence[-3] < -0.1
            width *= 1.3 if falls else 1.0
        if self.repetition and len(of.tokens) == 8 and len(set(of.tokens[-4:])) == 1:
            width *= 3
        return int(min(max(width, least), most))

    def _sure(self, view: View) -> list[bool]:
        """Whether each sequence commits the rest of its block."""
        best, _ = view.top(2)
        lead = best[:, :, 0] - best[:, :, 1]
        block = view.eligible | (view.live & ~view.masked)
        gaps = ((lead * block).sum(dim=1) / block.sum(dim=1)).tolist()
        sure = []
        for of, gap, forward in zip(self._sequences, gaps, view.block_step, strict=True):
            if forward > 0:
                of.gaps.append(gap)
            pairs = list(zip(of.gaps, of.confidence[-len(of.gaps) :], strict=False))[-self.exit_patience :]
            high = [one > self.exit_gap and other > self.exit_confidence for one, other in pairs]
            sure.append(forward > 0.2 * of.steps and len(high) == self.exit_patience and all(high))
        return sure
