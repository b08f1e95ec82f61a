"""The Dream family: Dream-v0-7B Base and Instruct, DiffuCoder."""

from __future__ import annotations

from functools import partial
from typing import Any

from models.config import Family, ModelConfig, Slot, attention_slots, gated_slots, whole
from models.config_json import ConfigReader

_new = partial(ModelConfig, family="dream", rms_eps=1e-6, rope_full_precision=False, qkv_bias=True, shift=1)


def _read(values: ConfigReader) -> ModelConfig:
    values.refuse("attention_bias")  # always on query, key and value only; the key would mean none or the output too
    values.refuse("mlp_bias", False)
    heads, eos = values.get("num_attention_heads", int), values.token("eos_token_id")
    config = _new(
        vocab_size=values.get("vocab_size", int),
        hidden_size=values.get("hidden_size", int),
        num_layers=values.get("num_hidden_layers", int),
        num_heads=heads,
        num_kv_heads=values.get("num_key_value_heads", int, heads),
        intermediate_size=values.get("intermediate_size", int),
        rms_eps=values.get("rms_norm_eps", float),
        rope_theta=values.rope_base(),
        tied=values.get("tie_word_embeddings", bool, False),
        context_length=values.get("max_position_embeddings", int),
        mask_id=values.token("mask_token_id"),
        eos_id=eos,
        pad_id=values.token("pad_token_id", eos),
        eot_id=values.optional("eot_token_id"),
    )
    values.refuse_variants(config.head_dim)
    values.refuse_unread()
    return config


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        "model_type": "Dream",
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "intermediate_size": config.intermediate_size,
        "rms_norm_eps": config.rms_eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied,
        "max_position_embeddings": config.context_length,
        "vocab_size": config.vocab_size,
        "mask_token_id": config.mask_id,
        "eos_token_id": config.eos_id,
        "pad_token_id": config.pad_id,
        "eot_token_id": config.eot_id,
    }


def _slots(config: ModelConfig) -> dict[str, Slot]:
    width, inner = config.hidden_size, config.intermediate_size
    slots = {
        "model.embed_tokens.weight": whole("embedding.weight", config.vocab_size, width),
        "model.norm.weight": whole("norm.weight", width),
    }
    if not config.tied:
        slots["lm_head.weight"] = whole("head.weight", config.vocab_size, width)
    for layer in range(config.num_layers):
        block = f"model.layers.{layer}."
        for part in ("weight", "bias"):
            slots |= attention_slots(config, layer, f"{block}self_attn.", part)
        slots |= gated_slots(config, layer, f"{block}mlp.gate_proj.weight", f"{block}mlp.up_proj.weight")
        slots |= {
            f"{block}input_layernorm.weight": whole(f"layers.{layer}.attention_norm.weight", width),
            f"{block}self_attn.o_proj.weight": whole(f"layers.{layer}.attention_out.weight", width, width),
            f"{block}post_attention_layernorm.weight": whole(f"layers.{layer}.feed_forward_norm.weight", width),
            f"{block}mlp.down_proj.weight": whole(f"layers.{layer}.down.weight", width, inner),
        }
    return slots


DREAM = Family(
    name="dream",
    model_types=("dream",),
    new_config=_new,
    read_config=_read,
    write_config=_write,
    slots=_slots,
)
