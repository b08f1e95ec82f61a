"""The config of a checkpoint and the description of a model family."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cache_zoo.errors import require
from models.config_json import ConfigReader

_MAX_ROPE_BASE = 1e12
"""Beyond it all angles are 0 in float32."""


@dataclass(frozen=True)
class ModelConfig:
    """Sizes, special tokens and conventions of one checkpoint.

    Attributes:
        family: name of the model family.
        vocab_size: rows of the embedding.
        hidden_size, num_layers, num_heads, num_kv_heads, intermediate_size: sizes of the network.
        rms_eps: epsilon of the RMS norms.
        rope_theta: base of the rotary embedding.
        rope_full_precision: rotate in float32 (LLaDA) or in the dtype of the activations (Dream).
        qkv_bias: biases on query, key and value.
        tied: the head is the embedding.
        context_length: longest canvas.
        shift: 1 where row ``j - 1`` predicts token ``j``, else 0.
        mask_id, eos_id, pad_id: special tokens, always from the checkpoint.
        eot_id: end-of-turn token, None if the checkpoint names none.
    """

    family: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    intermediate_size: int
    rms_eps: float
    rope_theta: float
    rope_full_precision: bool
    qkv_bias: bool
    tied: bool
    context_length: int
    shift: int
    mask_id: int
    eos_id: int
    pad_id: int
    eot_id: int | None = None

    def __post_init__(self) -> None:
        for name in (
            *("vocab_size", "hidden_size", "num_layers", "num_heads", "num_kv_heads", "intermediate_size"),
            "context_length",
        ):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        for name, most in (("rms_eps", 1), ("rope_theta", _MAX_ROPE_BASE)):
            value = getattr(self, name)
            require(value > 0 and math.isfinite(value), f"{name} must be a finite number above 0, not {value}")
            require(value <= most, f"{name} must be at most {most:g}, not {value}")
        require(
            self.hidden_size % self.num_heads == 0 and self.num_heads % self.num_kv_heads == 0,
            f"width {self.hidden_size}, {self.num_heads} heads and {self.num_kv_heads} key/value heads do not fit: "
            "each must divide the one before",
        )
        require(self.head_dim % 2 == 0, f"rotary embedding needs heads of an even width, not {self.head_dim}")
        for name in ("mask_id", "eos_id", "pad_id", "eot_id"):
            token = getattr(self, name)
            if token is not None:
                require(0 <= token < self.vocab_size, f"{name} {token} is outside the vocabulary of {self.vocab_size}")
                require(name == "mask_id" or token != self.mask_id, f"{name} and mask_id are both {token}")

    @property
    def end_ids(self) -> set[int]:
        """Tokens that end an answer: end of sequence and, if there is one, end of turn."""
        return {self.eos_id} | ({self.eot_id} if self.eot_id is not None else set())

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def qkv_sizes(self) -> tuple[int, int, int]:
        """Output widths of query, key and value."""
        kv = self.num_kv_heads * self.head_dim
        return self.hidden_size, kv, kv


@dataclass(frozen=True)
class Slot:
    """Destination of an official parameter: rows of one of our parameters.

    Attributes:
        parameter: its name in our model.
        start, stop: range in its first dimension, ``[start, stop)``.
        shape: of the official parameter.
    """

    parameter: str
    start: int
    stop: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Family:
    """A model family: recognises its checkpoints, reads and writes their config and maps their parameters.

    Attributes:
        name: of the family.
        model_types: values of ``model_type`` in ``config.json``, lower case.
        new_config: `ModelConfig` with the family's conventions; takes the rest by name.
        read_config: ``config.json`` to `ModelConfig`.
        write_config: its inverse, in the published layout.
        slots: official parameter names to their destinations.
    """

    name: str
    model_types: tuple[str, ...]
    new_config: Callable[..., ModelConfig]
    read_config: Callable[[ConfigReader], ModelConfig]
    write_config: Callable[[ModelConfig], dict[str, Any]]
    slots: Callable[[ModelConfig], dict[str, Slot]]


def attention_slots(config: ModelConfig, layer: int, prefix: str, part: str) -> dict[str, Slot]:
    """Slots of ``{prefix}{q,k,v}_proj.{part}`` in the fused projection of ``layer``."""
    slots, start = {}, 0
    for name, size in zip("qkv", config.qkv_sizes, strict=True):
        shape = (size, config.hidden_size) if part == "weight" else (size,)
        slots[f"{prefix}{name}_proj.{part}"] = Slot(f"layers.{layer}.qkv.{part}", start, start + size, shape)
        start += size
    return slots


def gated_slots(config: ModelConfig, layer: int, gate: str, up: str) -> dict[str, Slot]:
    """Slots of the gate and up projections in the fused one of ``layer``."""
    size, target = config.intermediate_size, f"layers.{layer}.gate_up.weight"
    shape = (size, config.hidden_size)
    return {gate: Slot(target, 0, size, shape), up: Slot(target, size, 2 * size, shape)}


def whole(parameter: str, *shape: int) -> Slot:
    """A slot that fills ``parameter``."""
    return Slot(parameter, 0, shape[0], shape)
