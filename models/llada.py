"""The LLaDA family: LLaDA-8B Base and Instruct, LLaDA-1.5."""

from __future__ import annotations

from functools import partial
from typing import Any

from cache_zoo.errors import require
from models.config import Family, ModelConfig
from models.config_json import ConfigReader

_ROOT = "model.transformer."
_LAYER = f"{_ROOT}blocks.{{}}."


def _own_fields(values: ConfigReader) -> dict[str, Any]:
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
    heads, shared = values.get("n_heads", int), values.optional("multi_query_attention", bool)
    kv_heads = values.get("n_kv_heads", int, 1 if shared else heads)
    require(not shared or kv_heads == 1, f"'multi_query_attention' means 1 key/value head, but 'n_kv_heads' {kv_heads}")
    ratio = values.optional("mlp_ratio")
    intermediate = None if ratio is None else ratio * values.get("d_model", int)
    return {
        "vocab_size": values.get("embedding_size", int, values.get("vocab_size", int)),
        "num_kv_heads": kv_heads,
        "intermediate_size": values.get("mlp_hidden_size", int, intermediate),
        "rope_full_precision": values.get("rope_full_precision", bool, True),
    }


LLADA = Family(
    name="llada",
    model_types=("llada",),
    new_config=partial(ModelConfig, family="llada", rms_eps=1e-5, rope_full_precision=True, qkv_bias=False, shift=0),
    own_fields=_own_fields,
    constants={
        "model_type": "llada",
        "block_type": "llama",
        "layer_norm_type": "rms",
        "activation_type": "silu",
        "rope": True,
    },
    keys={
        "d_model": "hidden_size",
        "n_layers": "num_layers",
        "n_heads": "num_heads",
        "n_kv_heads": "num_kv_heads",
        "mlp_hidden_size": "intermediate_size",
        "rope_full_precision": "rope_full_precision",
        "weight_tying": "tied",
        "max_sequence_length": "context_length",
        "vocab_size": "vocab_size",
    },
    modules={
        "embedding": f"{_ROOT}wte",
        "norm": f"{_ROOT}ln_f",
        "head": f"{_ROOT}ff_out",
        "query": f"{_LAYER}q_proj",
        "key": f"{_LAYER}k_proj",
        "value": f"{_LAYER}v_proj",
        "gate": f"{_LAYER}ff_proj",
        "up": f"{_LAYER}up_proj",
        "attention_norm": f"{_LAYER}attn_norm",
        "attention_out": f"{_LAYER}attn_out",
        "feed_forward_norm": f"{_LAYER}ff_norm",
        "down": f"{_LAYER}ff_out",
    },
    aliases={
        "tie_word_embeddings": "tied",
        "hidden_size": "hidden_size",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "num_key_value_heads": "num_kv_heads",
        "intermediate_size": "intermediate_size",
        "max_position_embeddings": "context_length",
    },
)
