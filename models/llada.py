"""The LLaDA family: LLaDA-8B Base and Instruct, LLaDA-1.5."""

from __future__ import annotations

from functools import partial
from typing import Any

from cache_zoo.errors import require
from models.config import Family, ModelConfig, Slot, attention_slots, gated_slots, whole
from models.config_json import ConfigReader

_new = partial(ModelConfig, family="llada", rms_eps=1e-5, rope_full_precision=True, qkv_bias=False, shift=0)


def _read(values: ConfigReader) -> ModelConfig:
    # Without these keys, the published configuration code builds another network.
    values.refuse("layer_norm_type", "rms", required=True)
    values.refuse("activation_type", "silu", required=True)
    values.refuse("rope", True, required=True)
    values.refuse("block_type", "llama")
    values.refuse("layer_norm_with_affine", True)
    for key in (
        *("include_bias", "include_qkv_bias", "attention_bias", "mlp_bias", "bias_for_layer_norm"),
        *("alibi", "attention_layer_norm", "input_emb_norm", "scale_logits", "clip_qkv", "norm_after"),
    ):
        values.refuse(key, False)
    hidden, heads = values.get("d_model", int), values.get("n_heads", int)
    layers, context = values.get("n_layers", int), values.get("max_sequence_length", int)
    vocab_size, eos = values.get("vocab_size", int), values.token("eos_token_id")
    shared = values.optional("multi_query_attention", bool)
    kv_heads = values.get("n_kv_heads", int, 1 if shared else heads)
    require(not shared or kv_heads == 1, f"'multi_query_attention' means 1 key/value head, but 'n_kv_heads' {kv_heads}")
    ratio = values.optional("mlp_ratio")
    intermediate = values.get("mlp_hidden_size", int, None if ratio is None else ratio * hidden)
    for key, value in {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": intermediate,
        "max_position_embeddings": context,
    }.items():
        values.refuse(key, value)  # aliases
    config = _new(
        vocab_size=values.get("embedding_size", int, vocab_size),
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        intermediate_size=intermediate,
        rms_eps=values.get("rms_norm_eps", float),
        rope_theta=values.rope_base(),
        rope_full_precision=values.get("rope_full_precision", bool, True),
        tied=values.get("weight_tying", bool),
        context_length=context,
        mask_id=values.token("mask_token_id"),
        eos_id=eos,
        pad_id=values.token("pad_token_id", eos),
        eot_id=values.optional("eot_token_id"),
    )
    values.refuse("tie_word_embeddings", config.tied)
    values.refuse_variants(config.head_dim)
    values.refuse_unread()
    return config


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        "model_type": "llada",
        "block_type": "llama",
        "layer_norm_type": "rms",
        "activation_type": "silu",
        "d_model": config.hidden_size,
        "n_layers": config.num_layers,
        "n_heads": config.num_heads,
        "n_kv_heads": config.num_kv_heads,
        "mlp_hidden_size": config.intermediate_size,
        "rms_norm_eps": config.rms_eps,
        "rope": True,
        "rope_full_precision": config.rope_full_precision,
        "rope_theta": config.rope_theta,
        "weight_tying": config.tied,
        "max_sequence_length": config.context_length,
        "vocab_size": config.vocab_size,
        "mask_token_id": config.mask_id,
        "eos_token_id": config.eos_id,
        "pad_token_id": config.pad_id,
        "eot_token_id": config.eot_id,
    }


def _slots(config: ModelConfig) -> dict[str, Slot]:
    width, inner = config.hidden_size, config.intermediate_size
    root = "model.transformer."
    slots = {
        f"{root}wte.weight": whole("embedding.weight", config.vocab_size, width),
        f"{root}ln_f.weight": whole("norm.weight", width),
    }
    if not config.tied:
        slots[f"{root}ff_out.weight"] = whole("head.weight", config.vocab_size, width)
    for layer in range(config.num_layers):
        block = f"{root}blocks.{layer}."
        slots |= attention_slots(config, layer, block, "weight")
        slots |= gated_slots(config, layer, f"{block}ff_proj.weight", f"{block}up_proj.weight")
        slots |= {
            f"{block}attn_norm.weight": whole(f"layers.{layer}.attention_norm.weight", width),
            f"{block}attn_out.weight": whole(f"layers.{layer}.attention_out.weight", width, width),
            f"{block}ff_norm.weight": whole(f"layers.{layer}.feed_forward_norm.weight", width),
            f"{block}ff_out.weight": whole(f"layers.{layer}.down.weight", width, inner),
        }
    return slots


LLADA = Family(
    name="llada",
    model_types=("llada",),
    new_config=_new,
    read_config=_read,
    write_config=_write,
    slots=_slots,
)
