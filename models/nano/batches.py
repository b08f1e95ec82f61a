"""Training batches of the embedded models: problems, functions and drill, with the masks to predict.

The objective is masked diffusion (LLaDA, arXiv 2502.09992, section 2.3): answer tokens are replaced by [MASK] and
predicted, prompts stay clean, and end-of-sequence tokens fill the canvas behind the last answer. LLaDA's 1/t weight has
too much variance for small batches; here the loss is the mean over masked tokens, with a tenth of the weight for the
end-of-sequence tail. Half of the canvases are masked as in semi-autoregressive decoding: clean up to a point, partly
masked in the block behind it, fully masked after that. Later, half of the canvases hide every number that follows from
a result, because a model that can copy results from later text never learns to compute them. Some rows of every batch
are drill: unrelated equations with only the results masked.

Batch ``n`` depends on seed and ``n`` alone, so a run can stop and resume at any step.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor

from models.nano.code import function
from models.nano.data import held_out
from models.nano.gsm import problem

BLOCK = 32
_TAIL_WEIGHT, _BEHIND_WEIGHT = 0.1, 0.2


@dataclass(frozen=True)
class Plan:
    """Everything that determines a training run.

    Attributes:
        family: layout of the checkpoint.
        width, layers, heads, kv_heads, inner: sizes of the network.
        steps: number of batches.
        batch: problems per batch; a sequence with examples holds several.
        drill: rows of equations per row of problems.
        results_from: share of the steps after which half of the answers are masked from a result on.
        shots: maximum number of examples before the question.
        shots_from: share of the steps after which there are examples.
        gen_length: canvas behind the prompt in 5 % of the early and 30 % of the late batches; otherwise the longest
            answer sets it.
        rate, embedding_rate: peak learning rates of matrices (Muon) and of everything else (AdamW).
        cooldown: share of the steps over which both fall to zero at the end.
        seed: of weights and data.
    """

    family: str = "llada"
    width: int = 128
    layers: int = 6
    heads: int = 4
    kv_heads: int = 4
    inner: int = 384
    steps: int = 8000
    batch: int = 32
    drill: float = 0.5
    results_from: float = 0.315
    shots: int = 4
    shots_from: float = 0.7
    gen_length: int = 128
    rate: float = 0.006
    embedding_rate: float = 0.002
    cooldown: float = 0.35
    seed: int = 0


class Batches:
    """Batches of token ids, masks and loss weights for ``plan``."""

    def __init__(self, plan: Plan, tokenizer: Any) -> None:
        self.plan, self.tokenizer = plan, tokenizer
        self.held_out = held_out()

    def batch(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Batch ``number``: ids ``[B, T]``, masked (BoolTensor ``[B, T]``), weight (float ``[B, T]``)."""
        plan = self.plan
        random = Random(f"{plan.seed}/{number}")
        late, results = (number >= share * plan.steps for share in (plan.shots_from, plan.results_from))
        shots = random.randint(0, plan.shots) if late else random.choice((0, 0, 1))
        rows = [self._pieces(random, shots) for _ in range(max(4, plan.batch // (shots + 1)))]
        longest = max(sum(len(ids) for ids, _ in pieces) for pieces in rows) + 1
        prompt = max(sum(len(ids) for ids, _ in pieces[:-1]) for pieces in rows)
        full = random.random() < (0.3 if late else 0.05)
        length = max(longest, prompt + plan.gen_length) if full else longest
        drill = round(plan.drill * len(rows))
        ids = torch.full((len(rows) + drill, length), self.tokenizer.eos_token_id)
        masked = torch.zeros(ids.shape, dtype=torch.bool)
        weight = torch.full(ids.shape, _TAIL_WEIGHT)
        generator = torch.Generator().manual_seed(random.getrandbits(62))
        for row, pieces in enumerate(rows):
            clean_shots = random.random() < 0.3
            at = 0
            for place, (tokens, answer) in enumerate(pieces):
                last = place == len(pieces) - 1
                end = length if last else at + len(tokens)
                ids[row, at : at + len(tokens)] = torch.tensor(tokens)
                weight[row, at : at + len(tokens) + last] = 1.0
                if answer and (last or not clean_shots):
                    starts = self._results(tokens) if results and random.random() < 0.5 else []
                    if starts:
                        masked[row, at:end], first = _from_result(end - at, starts, random, generator)
                        weight[row, first + at : end] *= _BEHIND_WEIGHT
                    else:
                        masked[row, at:end] = _noise(end - at, len(tokens), random, generator)
                at += len(tokens)
        for row in range(len(rows), len(rows) + drill):
            ids[row], digits = self._equations(random, longest, length)
            rate = random.uniform(0.5, 1.0)
            masked[row] = digits & (torch.rand(length, generator=generator) < rate)
        weight[len(rows) :] = 1.0
        return ids, masked, weight

    def _equations(self, random: Random, filled: int, length: int) -> tuple[Tensor, Tensor]:
        """``filled`` tokens of equations and a tail ``[T]``, and a mask of the digits of results."""
        ids: list[int] = []
        results: list[bool] = []
        while len(ids) < filled:
            left, result = random.choice(problem(random).equations).split("=")
            for text, is_result in ((f" {left}=", False), (result[:-1], True), (".", False)):
                tokens = self.tokenizer.encode(text)
                ids += tokens
                results += [is_result] * len(tokens)
        tail = length - filled
        return (
            torch.tensor(ids[:filled] + [self.tokenizer.eos_token_id] * tail),
            torch.tensor(results[:filled] + [False] * tail),
        )

    def _results(self, tokens: list[int]) -> list[range]:
        """Places of the numbers that follow from a result: results, and first operands."""
        words = self.tokenizer.convert_ids_to_tokens(tokens)
        ranges: list[range] = []
        for place, word in enumerate(words):
            if word.lstrip("Ġ").isdigit():
                if ranges and ranges[-1].stop == place:
                    ranges[-1] = range(ranges[-1].start, place + 1)
                elif place and words[place - 1] in ("Ġ=", ".", "Ġ####"):
                    ranges.append(range(place, place + 1))
        return ranges

    def _pieces(self, random: Random, shots: int) -> list[tuple[list[int], bool]]:
        """Prompts and answers of one sequence in turn, with a flag for answers."""
        code = random.random() < 0.25
        pieces = []
        for shot in range(shots + 1):
            end = "" if shot == shots else "\n\n"
            if code:
                made = function(random)
                while made.prompt in self.held_out:
                    made = function(random)
                pieces += [(made.prompt, False), (made.body.rstrip("\n") + (end or "\n"), True)]
            else:
                asked = problem(random)
                while asked.question in self.held_out:
                    asked = problem(random)
                pieces += [(asked.shot(answered=False), False), (f" {asked.answer}{end}", True)]
        return [(self.tokenizer.encode(text), answer) for text, answer in pieces]


def _noise(length: int, answer: int, random: Random, generator: torch.Generator) -> Tensor:
    """A mask of ``length`` tokens; the tail follows the first ``answer``."""
    rate = random.uniform(0.02, 1.0)
    masked = torch.rand(length, generator=generator) < rate
    if random.random() < 0.5:  # as in block-wise decoding
        start = random.randrange(answer + 1)
        if random.random() < 0.5:
            start = start // BLOCK * BLOCK
        masked[:start] = False
        masked[start + BLOCK :] = True
    return masked


def _from_result(length: int, numbers: list[range], random: Random, generator: torch.Generator) -> tuple[Tensor, int]:
    """A mask of ``length`` tokens: one of ``numbers``, all later ones, and some of the tokens after it; and its end."""
    chosen = random.randrange(len(numbers))
    shown = random.uniform(0.0, 1.0) if random.random() < 0.5 else 0.0
    masked = torch.rand(length, generator=generator) >= shown
    masked[: numbers[chosen].start] = False
    for number in numbers[chosen:]:
        masked[number.start : number.stop] = True
    return masked, numbers[chosen].stop
