"""Train an embedded model: ``python -m models.nano.train OUT family=llada``.

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

import json
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from cache_zoo.arguments import grouped, positional, read
from cache_zoo.errors import DONE, refusing
from models.config import ModelConfig
from models.loading import find_family
from models.nano.code import function
from models.nano.data import held_out
from models.nano.gsm import problem
from models.nano.tokenizer import CONTEXT_LENGTH, EOT_TOKEN, train_tokenizer
from models.transformer import Transformer

BLOCK = 32
_TAIL_WEIGHT, _BEHIND_WEIGHT = 0.1, 0.2
_STATE, _LOG_EVERY = "state.pt", 50


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
        shots: maximum number of examples before the question, after ``shots_from`` (share of the steps).
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


def model_config(plan: Plan, tokenizer: Any) -> ModelConfig:
    """The network that ``plan`` trains."""
    return find_family(plan.family).new_config(
        vocab_size=len(tokenizer),
        hidden_size=plan.width,
        num_layers=plan.layers,
        num_heads=plan.heads,
        num_kv_heads=plan.kv_heads,
        intermediate_size=plan.inner,
        rope_theta=10000.0,
        tied=False,
        context_length=CONTEXT_LENGTH,
        mask_id=tokenizer.mask_token_id,
        eos_id=tokenizer.eos_token_id,
        pad_id=tokenizer.pad_token_id,
        eot_id=tokenizer.convert_tokens_to_ids(EOT_TOKEN),
    )


class Data:
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
    """A mask of ``length`` tokens, of which the first ``answer`` precede the tail."""
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


def loss_of(model: Transformer, ids: Tensor, masked: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean cross-entropy of the masked tokens."""
    shift = model.config.shift
    noisy = ids.masked_fill(masked, model.config.mask_id)
    logits = model(noisy, masked.roll(-shift, dims=1))
    weights = weight[masked]
    return (F.cross_entropy(logits, ids[masked], reduction="none") * weights).sum() / weights.sum()


def initial(config: ModelConfig, seed: int) -> Transformer:
    """The untrained network: small embeddings, zero sub-block outputs and a zero head."""
    torch.manual_seed(seed)
    model = Transformer(config)
    torch.nn.init.normal_(model.embedding.weight, std=0.1)
    torch.nn.init.zeros_(model.head.weight)
    for name, parameter in model.named_parameters():
        if name.endswith(("attention_out.weight", "down.weight")):
            torch.nn.init.zeros_(parameter)
    return model


def rate_at(plan: Plan, step: int) -> float:
    """Share of the peak learning rate: warm-up, plateau, linear decay."""
    return min((step + 1) / 200, 1.0, (plan.steps - step) / (plan.cooldown * plan.steps))


def generation_config(config: ModelConfig, gen_length: int) -> dict[str, Any]:
    """``generation_config.json``: default decoding options."""
    return {
        "mask_token_id": config.mask_id,
        "eos_token_id": config.eos_id,
        "pad_token_id": config.pad_id,
        "max_new_tokens": gen_length,
        "steps": gen_length,
        "block_length": BLOCK,
        "alg": "maskgit_plus",
        "temperature": 0.0,
    }


def export(model: Transformer, tokenizer: Any, gen_length: int, folder: Path) -> None:
    """Write the checkpoint in the published layout, weights in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    family, ours = find_family(model.config.family), dict(model.named_parameters())
    weights = {
        name: ours[slot.parameter][slot.start : slot.stop].detach().to(torch.bfloat16).clone().contiguous()
        for name, slot in family.slots(model.config).items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", family.write_config(model.config))
    _write_json(folder / "generation_config.json", generation_config(model.config, gen_length))
    tokenizer.save_pretrained(folder)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


class TrainingRun:
    """A run in its folder: ``state.pt`` to resume from, ``log.jsonl`` and the exported checkpoint.

    Args:
        plan: of the run; a resumed run may change ``steps`` only.
        out: its folder; an existing run is resumed.
        device: for training.
    """

    def __init__(self, plan: Plan, out: Path, device: str = "cpu") -> None:
        self.plan, self.out, self.step = plan, out, 0
        self.tokenizer = train_tokenizer()
        self.model = initial(model_config(plan, self.tokenizer), plan.seed).to(device)
        self.data = Data(plan, self.tokenizer)
        layers = [p for p in self.model.layers.parameters() if p.ndim == 2]
        known = {id(parameter) for parameter in layers}
        others = [parameter for parameter in self.model.parameters() if id(parameter) not in known]
        self.optimisers: dict[str, tuple[torch.optim.Optimizer, float]] = {
            "muon": (torch.optim.Muon(layers, lr=plan.rate, weight_decay=0.0), plan.rate),
            "adam": (torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0), plan.embedding_rate),
        }
        out.mkdir(parents=True, exist_ok=True)
        if (out / _STATE).is_file():
            state = torch.load(out / _STATE, weights_only=True, map_location=device)
            self.model.load_state_dict(state["model"])
            for name, (optimiser, _) in self.optimisers.items():
                optimiser.load_state_dict(state[name])
            self.step = state["step"]

    def advance(self) -> float:
        """One step; returns its loss."""
        for optimiser, rate in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = rate * rate_at(self.plan, self.step)
        device = self.model.device
        ids, masked, weight = (part.to(device) for part in self.data.batch(self.step))
        # On CPUs the backward pass of fused attention is slower than the plain one for such short sequences.
        attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
        with attention, torch.autocast(device.type, dtype=torch.bfloat16):
            loss = loss_of(self.model, ids, masked, weight)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser, _ in self.optimisers.values():
            optimiser.step()
            optimiser.zero_grad()
        self.step += 1
        return loss.item()

    def save(self) -> None:
        """Write the state atomically, then the checkpoint."""
        state = {name: optimiser.state_dict() for name, (optimiser, _) in self.optimisers.items()}
        temporary = (self.out / _STATE).with_suffix(".tmp")
        torch.save({"model": self.model.state_dict(), "step": self.step, **state}, temporary)
        temporary.replace(self.out / _STATE)
        export(self.model, self.tokenizer, self.plan.gen_length, self.out)


def train(
    plan: Plan,
    out: Path,
    save_every: int = 500,
    keep_every: int | None = None,
    stop_after: float | None = None,
    device: str = "cpu",
) -> list[float]:
    """Run or resume ``plan`` and return the losses of the steps made.

    Args:
        plan: of the run.
        out: its folder.
        save_every: steps between saved states.
        keep_every: steps between checkpoints kept as ``step-<n>``; None: keep only the last.
        stop_after: seconds after which to stop.
        device: for training.
    """
    run, losses, started = TrainingRun(plan, out, device), [], time.monotonic()
    with tqdm(total=plan.steps, initial=run.step, desc=f"nano-{plan.family}") as bar:
        while run.step < plan.steps:
            losses.append(run.advance())
            bar.update()
            seconds = time.monotonic() - started
            if run.step % _LOG_EVERY == 0:
                recent = losses[-_LOG_EVERY:]
                with (out / "log.jsonl").open("a", encoding="utf-8") as log:
                    log.write(json.dumps({"step": run.step, "loss": fmean(recent), "seconds": seconds}) + "\n")
            if run.step % save_every == 0:
                run.save()
            if keep_every is not None and run.step % keep_every == 0:
                export(run.model, run.tokenizer, plan.gen_length, out / f"step-{run.step}")
            if stop_after is not None and seconds > stop_after:
                break
    run.save()
    return losses


@dataclass(frozen=True)
class TrainOptions:
    """Train an embedded model.

    Attributes:
        out: folder of the run; an unfinished one is resumed.
        keep_every: keep a checkpoint every N steps.
        stop_after: stop after this many seconds.
        device: of the training.
        plan: what the run depends on.
    """

    out: Path = positional()
    keep_every: int | None = None
    stop_after: float | None = None
    device: str = "cpu"
    plan: dict[str, Any] = grouped("", Plan)


@refusing
def main() -> int:
    """Train, and return the exit status."""
    options = vars(read(TrainOptions, "python -m models.nano.train"))
    train(Plan(**options.pop("plan")), **options)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
