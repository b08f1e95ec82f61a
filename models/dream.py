"""The Dream family: Dream-v0-7B Base and Instruct, DiffuCoder."""

from __future__ import annotations

from functools import partial
from typing import Any

from models.config import Family, ModelConfig
from models.config_json import ConfigReader

_LAYER = "model.layers.{}."


def _own_fields(values: ConfigReader) -> dict[str, Any]:
    values.refuse("attention_bias")  # always on query, key and value only; the key would mean none or the output too
    values.refuse("mlp_bias", False)
    return {
        "num_kv_heads": values.get("num_key_value_heads", int, values.get("num_attention_heads", int)),
        "tied": values.get("tie_word_embeddings", bool, False),
    }


DREAM = Family(
    name="dream",
    model_types=("dream",),
    new_config=partial(ModelConfig, family="dream", rms_eps=1e-6, rope_full_precision=False, qkv_bias=True, shift=1),
    own_fields=_own_fields,
    constants={"model_type": "Dream", "hidden_act": "silu"},
    keys={
        "hidden_size": "hidden_size",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "num_key_value_heads": "num_kv_heads",
        "intermediate_size": "intermediate_size",
        "tie_word_embeddings": "tied",
        "max_position_embeddings": "context_length",
        "vocab_size": "vocab_size",
    },
    modules={
        "embedding": "model.embed_tokens",
        "norm": "model.norm",
        "head": "lm_head",
        "query": f"{_LAYER}self_attn.q_proj",
        "key": f"{_LAYER}self_attn.k_proj",
        "value": f"{_LAYER}self_attn.v_proj",
        "gate": f"{_LAYER}mlp.gate_proj",
        "up": f"{_LAYER}mlp.up_proj",
        "attention_norm": f"{_LAYER}input_layernorm",
        "attention_out": f"{_LAYER}self_attn.o_proj",
        "feed_forward_norm": f"{_LAYER}post_attention_layernorm",
        "down": f"{_LAYER}mlp.down_proj",
    },
)
