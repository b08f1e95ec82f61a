"""The config of a checkpoint and the description of a model family."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from cache_zoo.errors import require
from models.config_json import ConfigReader

_SIZES = "vocab_size hidden_size num_layers num_heads num_kv_heads intermediate_size context_length".split()
_MAX_ROPE_BASE = 1e12
"""Beyond it all angles are 0 in float32."""
_SHARED_KEYS = {
    "rms_norm_eps": "rms_eps",
    "rope_theta": "rope_theta",
    **{f"{token}_token_id": f"{token}_id" for token in ("mask", "eos", "pad", "eot")},
}
"""Keys of ``config.json`` that all families have, with their field of `ModelConfig`."""


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
        for name in _SIZES:
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
    """Destination of an official parameter of this ``shape``: rows ``[start, stop)`` of one of our parameters."""

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
        own_fields: fields of `ModelConfig` with a default or a rule of the family; refuses unsupported values.
        constants: keys of ``config.json`` with one supported value.
        keys: keys of ``config.json`` in the published layout with their field of `ModelConfig`, beside the shared ones.
        modules: our modules (query, key, value, gate and up by themselves) with their official names, in which ``{}``
            is the number of the layer.
        aliases: as ``keys``, of other layouts: values that must agree if they are given.
    """

    name: str
    model_types: tuple[str, ...]
    new_config: Callable[..., ModelConfig]
    own_fields: Callable[[ConfigReader], dict[str, Any]]
    constants: dict[str, Any]
    keys: dict[str, str]
    modules: dict[str, str]
    aliases: dict[str, str] = field(default_factory=dict)

    def read_config(self, values: ConfigReader) -> ModelConfig:
        """``config.json`` as a `ModelConfig`; an error if it asks for another network."""
        own, eos, kinds = self.own_fields(values), values.token("eos_token_id"), get_type_hints(ModelConfig)
        sizes = {name: values.get(key, kinds[name]) for key, name in self.keys.items() if name not in own} | own
        for alias, name in self.aliases.items():
            values.refuse(alias, sizes[name])
        config = self.new_config(
            **sizes,
            rms_eps=values.get("rms_norm_eps", float),
            rope_theta=values.rope_base(),
            mask_id=values.token("mask_token_id"),
            eos_id=eos,
            pad_id=values.token("pad_token_id", eos),
            eot_id=values.optional("eot_token_id"),
        )
        values.refuse_variants(config.head_dim)
        values.refuse_unread()
        return config

    def write_config(self, config: ModelConfig) -> dict[str, Any]:
        """The inverse of `read_config`, in the published layout."""
        keys = {**self.keys, **_SHARED_KEYS}
        return {**self.constants, **{key: getattr(config, name) for key, name in keys.items()}}

    def slots(self, config: ModelConfig) -> dict[str, Slot]:
        """Official parameter names with their destinations."""
        width, inner = config.hidden_size, config.intermediate_size
        slots: dict[str, Slot] = {}

        def add(module: str, parameter: str, *shape: int, layer: int = 0, start: int = 0) -> None:
            name = f"{self.modules[module].format(layer)}.{parameter.rpartition('.')[2]}"
            slots[name] = Slot(parameter, start, start + shape[0], shape)

        add("embedding", "embedding.weight", config.vocab_size, width)
        add("norm", "norm.weight", width)
        if not config.tied:
            add("head", "head.weight", config.vocab_size, width)
        for layer in range(config.num_layers):
            for part, columns in (("weight", [width]), ("bias", []))[: 1 + config.qkv_bias]:
                start = 0
                for module, size in zip(("query", "key", "value"), config.qkv_sizes, strict=True):
                    add(module, f"layers.{layer}.qkv.{part}", size, *columns, layer=layer, start=start)
                    start += size
            for module, start in (("gate", 0), ("up", inner)):
                add(module, f"layers.{layer}.gate_up.weight", inner, width, layer=layer, start=start)
            add("attention_norm", f"layers.{layer}.attention_norm.weight", width, layer=layer)
            add("attention_out", f"layers.{layer}.attention_out.weight", width, width, layer=layer)
            add("feed_forward_norm", f"layers.{layer}.feed_forward_norm.weight", width, layer=layer)
            add("down", f"layers.{layer}.down.weight", width, inner, layer=layer)
        return slots
