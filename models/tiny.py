"""Tiny random checkpoints in the published layouts, for tests and demonstrations.

``python -m models.tiny FOLDER [family=dream]`` writes one.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cache_zoo.arguments import positional, read
from cache_zoo.errors import DONE, refusing
from models.config import Family
from models.config_json import ConfigReader
from models.loading import find_family
from models.tokenizer import fast_tokenizer
from models.transformer import Transformer

SMALLEST: dict[str, dict[str, int]] = {
    "llada": {"d_model": 32, "n_layers": 3, "mlp_hidden_size": 64},
    "dream": {"hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 64},
}
"""Per family, keys of config.json for the smallest useful test checkpoint."""
SPECIAL_TOKENS = ("<|mask|>", "<|endoftext|>", "<|eot_id|>", "<|start|>")
_MASK, _EOS, _EOT = 256, 257, 258
_CONTEXT_LENGTH = 8192
_KV_HEADS = {"llada": 4, "dream": 2}
_ROPE_THETA = {"llada": 500000.0, "dream": 1000000.0}
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def make_tiny(folder: str | Path, family: str = "llada", seed: int = 0, **sizes: Any) -> Path:
    """Write a random checkpoint with a byte-level tokenizer and a chat template into ``folder``, and return it.

    ``sizes`` are other keys of config.json to set.
    """
    layout, folder = find_family(family), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tiny = layout.new_config(
        vocab_size=256 + len(SPECIAL_TOKENS),
        hidden_size=64,
        num_layers=4,
        num_heads=4,
        num_kv_heads=_KV_HEADS[family],
        intermediate_size=128,
        rope_theta=_ROPE_THETA[family],
        tied=False,
        context_length=_CONTEXT_LENGTH,
        mask_id=_MASK,
        eos_id=_EOS,
        pad_id=_EOS,
        eot_id=_EOT,
    )
    config = {**layout.write_config(tiny), **sizes}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(random_weights(layout, config, seed), folder / "model.safetensors", metadata={"format": "pt"})
    byte_tokenizer().save_pretrained(folder)
    return folder


def random_weights(family: Family, config: dict[str, Any], seed: int) -> dict[str, torch.Tensor]:
    """Random parameters under the official names.

    The mask row of an untied head is zero. The scale of the weights makes the soft-max neither flat nor one-hot.
    """
    model_config = family.read_config(ConfigReader(config))
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: parameter.shape for name, parameter in Transformer(model_config).named_parameters()}
    weights = {}
    for name, slot in family.slots(model_config).items():
        if "norm" in slot.parameter:
            weights[name] = 1 + 0.1 * torch.randn(slot.shape, generator=generator)
        elif len(slot.shape) == 1:
            weights[name] = 0.1 * torch.randn(slot.shape, generator=generator)
        else:
            gain = 1.0 if slot.parameter == "embedding.weight" else 2.5 * shapes[slot.parameter][-1] ** -0.5
            weights[name] = gain * torch.randn(slot.shape, generator=generator)
        if slot.parameter == "head.weight":
            weights[name][model_config.mask_id] = 0
    return weights


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, then the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))  # in this order: config.json has their ids
    return fast_tokenizer(tokenizer, SPECIAL_TOKENS, _CHAT_TEMPLATE, _CONTEXT_LENGTH)


@dataclass(frozen=True)
class TinyOptions:
    """Write a tiny random checkpoint.

    Attributes:
        folder: of the checkpoint.
        family: layout of the weights.
        seed: of the weights.
    """

    folder: Path = positional()
    family: str = "llada"
    seed: int = 0


@refusing
def main() -> int:
    """Write the checkpoint, print its folder and return the exit status."""
    print(make_tiny(**vars(read(TinyOptions, "python -m models.tiny"))))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
