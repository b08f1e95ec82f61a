"""Train an embedded model: ``python -m models.nano.train OUT family=llada``."""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
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
from models.nano.batches import BLOCK, Batches, Plan
from models.nano.tokenizer import CONTEXT_LENGTH, EOT_TOKEN, train_tokenizer
from models.transformer import Transformer

_STATE, _LOG_EVERY = "state.pt", 50


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


def export(model: Transformer, tokenizer: Any, gen_length: int, folder: Path) -> None:
    """Write the checkpoint in the published layout, weights in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    config, ours = model.config, dict(model.named_parameters())
    family = find_family(config.family)
    weights = {
        name: ours[slot.parameter][slot.start : slot.stop].detach().to(torch.bfloat16).clone().contiguous()
        for name, slot in family.slots(config).items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", family.write_config(config))
    generation = {
        "mask_token_id": config.mask_id,
        "eos_token_id": config.eos_id,
        "pad_token_id": config.pad_id,
        "max_new_tokens": gen_length,
        "steps": gen_length,
        "block_length": BLOCK,
        "alg": "maskgit_plus",
        "temperature": 0.0,
    }
    _write_json(folder / "generation_config.json", generation)
    tokenizer.save_pretrained(folder)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


class TrainingRun:
    """A run in its folder: ``state.pt`` to resume from (``steps`` may change), ``log.jsonl`` and the checkpoint."""

    def __init__(self, plan: Plan, out: Path, device: str = "cpu") -> None:
        self.plan, self.out, self.step = plan, out, 0
        self.tokenizer = train_tokenizer()
        self.model = initial(model_config(plan, self.tokenizer), plan.seed).to(device)
        self.batches = Batches(plan, self.tokenizer)
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
        ids, masked, weight = (part.to(device) for part in self.batches.batch(self.step))
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
