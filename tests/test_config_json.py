"""config.json: keys that change the network are read or refused, and impossible values are errors."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from cache_zoo import UsageError
from models import ModelConfig, Transformer, load_model
from models.loading import read_config

NAMES = {
    "llada": {
        "heads": "n_heads",
        "kv_heads": "n_kv_heads",
        "layers": "n_layers",
        "width": "d_model",
        "inner": "mlp_hidden_size",
        "context": "max_sequence_length",
        "tied": "weight_tying",
    },
    "dream": {
        "heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads",
        "layers": "num_hidden_layers",
        "width": "hidden_size",
        "inner": "intermediate_size",
        "context": "max_position_embeddings",
        "tied": "tie_word_embeddings",
    },
}
FAMILIES = tuple(NAMES)
V5 = {"rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}
V5_SCALED = {
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 1000000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 2048,
    }
}
"""Parts of config.json as transformers 5 writes them."""
PUBLISHED: dict[str, dict[str, Any]] = {
    "llada_a": {
        "d_model": 4096,
        "n_layers": 32,
        "n_heads": 32,
        "n_kv_heads": 32,
        "mlp_hidden_size": 12288,
        "embedding_size": 126464,
        "vocab_size": 126464,
        "mask_token_id": 126336,
        "eos_token_id": 126081,
        "pad_token_id": 126081,
    },
    "dream_a": {
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18944,
        "vocab_size": 152064,
        "mask_token_id": 151666,
        "eos_token_id": 151643,
        "pad_token_id": 151643,
    },
}
"""Sizes and tokens of LLaDA-8B and Dream-7B; the conformance models have all other keys of theirs."""


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path, tiny_folders: dict[str, Path]) -> Path:
    return Path(shutil.copytree(tiny_folders[request.param], tmp_path / request.param))


def change(folder: Path, changes: dict[str, Any]) -> None:
    """Set keys of config.json, by the family's name for them; ``...`` removes one."""
    path = folder / "config.json"
    names = NAMES[folder.name]
    config = {**json.loads(path.read_text()), **{names.get(key, key): value for key, value in changes.items()}}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


def loaded(folder: Path, changes: dict[str, Any]) -> ModelConfig:
    change(folder, changes)
    return load_model(folder).config


def refusal(folder: Path, changes: dict[str, Any]) -> str:
    """The error, which comes at once and names the file."""
    change(folder, changes)
    start = time.monotonic()
    with pytest.raises(UsageError) as caught:
        load_model(folder)
    assert time.monotonic() - start < 3
    assert str(caught.value).startswith(str(folder))
    return str(caught.value)


def rope(*, top: Any = ..., **parameters: Any) -> dict[str, Any]:
    return {"rope_theta": top, "rope_parameters": parameters}


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_theta": ..., **V5},
        rope(rope_theta=1000000),
        rope(rope_type="default", rope_theta=1e6, partial_rotary_factor=1.0, factor=None),
        rope(full_attention={"rope_type": "default", "rope_theta": 1e6}),
        rope(full_attention={"rope_theta": 1e6}, sliding_attention={"rope_theta": 1e6}),
        rope(top=1e6, rope_type="default"),
        rope(top=1e6, rope_theta=1000000),
        rope(top=1e6),
        {"rope_theta": 1e6, "rope_scaling": {"type": "default"}, "rope_parameters": None},
        {"rope_theta": 1e6, "rope_scaling": {}, "partial_rotary_factor": 1},
    ],
    ids=str,
)
def test_the_base_of_plain_rope_is_read_wherever_it_stands(changes: dict[str, Any], folder: Path) -> None:
    assert loaded(folder, changes).rope_theta == 1e6


def test_the_base_that_is_read_is_the_one_that_is_used(folder: Path) -> None:
    ids = torch.arange(9)[None]

    def logits(changes: dict[str, Any]) -> torch.Tensor:
        change(folder, changes)
        model: Transformer = load_model(folder)
        return model.run(ids).logits

    expected = logits({"rope_theta": 1e6})
    assert torch.equal(logits({"rope_theta": ..., **V5}), expected)
    assert not torch.equal(logits({"rope_theta": 1e4, "rope_parameters": None}), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_theta": ..., **V5_SCALED}, "'rope_parameters' has rope_type 'yarn'"),
        *(
            (rope(rope_type=kind, rope_theta=1e6), "only plain rotary embedding is supported")
            for kind in ("linear", "dynamic", "longrope", "llama3", "proportional", "mrope", "", 5, True, ["default"])
        ),
        (rope(type="yarn", rope_theta=1e6), "'rope_parameters' has type 'yarn'"),
        (rope(rope_type="default", type="linear", rope_theta=1e6), "'rope_parameters' has type 'linear'"),
        (rope(rope_theta=1e6, partial_rotary_factor=0.5), "has partial_rotary_factor 0.5"),
        (rope(rope_theta=1e6, factor=4.0), "has factor 4.0"),
        (rope(rope_theta=1e6, mrope_section=[16, 24]), r"has mrope_section [16, 24]"),
        (
            rope(full_attention={"rope_type": "yarn", "rope_theta": 1e6}),
            "'rope_parameters.full_attention' has rope_type",
        ),
        (rope(full_attention={"rope_theta": 1e6}, sliding_attention={"rope_theta": 1e4}), "several bases"),
        (rope(full_attention={"rope_theta": 1e6}, rope_theta=1e6), "has full_attention {'rope_theta': 1000000.0}"),
        (rope(top=1e4, rope_theta=1e6), "rope_theta 10000, rope_parameters.rope_theta 1e+06"),
        (rope(rope_type="default"), "no base of the rotary embedding"),
        (rope(), "no base of the rotary embedding"),
        ({"rope_theta": None}, "no base of the rotary embedding"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "'rope_scaling' has type 'linear'"),
        ({"rope_scaling": ["linear"]}, "'rope_scaling' must be an object, not ['linear']"),
        ({"rope_parameters": "default"}, "'rope_parameters' must be an object, not 'default'"),
        ({"rope_local_base_freq": 1e4}, "'rope_local_base_freq' is 10000.0"),
        ({"rotary_emb_base": 1e4}, "'rotary_emb_base' is 10000.0"),
        ({"partial_rotary_factor": 0.5}, "'partial_rotary_factor' is 0.5"),
        *(({"rope_theta": base}, "rope_theta") for base in (0, -1.0, math.nan, math.inf, "1e6", True, [1e4], 10**400)),
        *((rope(rope_theta=base), "rope_theta") for base in (0, -1.0, math.nan, math.inf, "1e6", True)),
    ],
    ids=str,
)
def test_another_rotary_embedding_is_refused(changes: dict[str, Any], message: str, folder: Path) -> None:
    assert message in refusal(folder, changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"sliding_window": 4096},
        {"sliding_window": 4096, "use_sliding_window": True},
        {"use_sliding_window": True},
        {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
        {"attention_chunk_size": 8192},
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"load_in_8bit": True},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"hidden_act": "gelu"},
        {"activation_type": "gelu"},
        {"activation_function": "relu"},
        {"head_dim": 16},
        {"use_qk_norm": True},
        {"qk_layernorm": True},
        {"final_logit_softcapping": 30.0},
        {"attn_logit_softcapping": 50.0},
        {"query_pre_attn_scalar": 224},
        {"clip_qkv": 8.0},
        {"num_experts": 64},
        {"embedding_multiplier": 12.0},
        {"logits_scaling": 8.0},
        {"is_causal": True},
        {"is_decoder": True},
        {"block_size": 32},
        {"layer_norm_eps": 1e-3},
        {"residual_multiplier": 0.2},
    ],
    ids=str,
)
def test_keys_that_ask_for_another_network_are_refused(changes: dict[str, Any], folder: Path) -> None:
    assert f"'{list(changes)[-1]}' is " in refusal(folder, changes) or "'sliding_window' is 4096" in refusal(folder, {})


@pytest.mark.parametrize(
    "changes",
    [
        {"sliding_window": 4096, "use_sliding_window": False, "max_window_layers": 28},
        {"layer_types": ["full_attention"] * 3},
        {"quantization_config": None, "mlp_bias": False, "use_qk_norm": False, "final_logit_softcapping": None},
        {"head_dim": 8, "hidden_act": "silu"},
        {"attention_dropout": 0.1, "hidden_dropout": 0.1, "resid_pdrop": 0.1, "initializer_range": 0.02},
        {"output_attentions": False, "output_hidden_states": True, "chunk_size_feed_forward": 0, "pruned_heads": {}},
        {"attn_implementation": "sdpa", "_attn_implementation_autoset": True, "use_flash_attention": True},
        {
            "_name_or_path": "x",
            "architectures": ["X"],
            "bos_token_id": 5,
            "dtype": "bfloat16",
            "torch_dtype": "float16",
        },
        {
            "unsloth_version": "2026.1",
            "my_note": "hello",
            "id2label": {"0": "a"},
            "temperature": 1.0,
            "use_cache": True,
        },
        {"eos_token_id": [257], "pad_token_id": None, "eot_token_id": None},
    ],
    ids=str,
)
def test_keys_that_change_nothing_are_fine(changes: dict[str, Any], folder: Path) -> None:
    assert loaded(folder, changes).eos_id == 257


NO_TOKENS: list[Any] = [[], ["257"], "257", True, 257.0, {}]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("layers", 10**8, "config.json names 100000000 layers, but the files hold"),
        *(
            (key, 0, "must be at least 1, not 0")
            for key in ("layers", "heads", "kv_heads", "width", "inner", "context")
        ),
        *(
            (key, -4, "must be at least 1, not -4")
            for key in ("layers", "heads", "kv_heads", "width", "inner", "context")
        ),
        ("vocab_size", 0, "vocab_size must be at least 1, not 0"),
        ("vocab_size", 10**12, "has shape [260, 32], not [1000000000000, 32]"),
        ("width", 10**30, "do not match config.json"),
        ("width", 36, "of an even width, not 9"),
        ("heads", 3, "do not fit"),
        *(("rms_norm_eps", value, "must be a finite number") for value in (0, -1, math.nan, math.inf, 10**400)),
        ("rms_norm_eps", ..., "has no 'rms_norm_eps'"),
        ("rms_norm_eps", 1e300, "rms_eps must be at most 1, not 1e+300"),
        ("rope_theta", 1e300, "rope_theta must be at most 1e+12, not 1e+300"),
        ("mask_token_id", 257, "eos_id and mask_id are both 257"),
        ("eot_token_id", 256, "eot_id and mask_id are both 256"),
        ("pad_token_id", 256, "pad_id and mask_id are both 256"),
        *((key, 260, "is outside the vocabulary of 260") for key in ("mask_token_id", "eos_token_id", "eot_token_id")),
        *((key, -1, "is outside the vocabulary of 260") for key in ("mask_token_id", "pad_token_id", "eot_token_id")),
        ("eos_token_id", None, "'eos_token_id' must be a whole number, not None"),
        ("eos_token_id", ..., "has no 'eos_token_id'; did you mean"),
        ("eos_token_id", [257, 258], "'eos_token_id' lists [257, 258]; give one token"),
        *(("eos_token_id", value, "'eos_token_id'") for value in NO_TOKENS),
        ("tied", "yes", "must be true or false, not 'yes'"),
        ("tied", True, "ties the head to the embedding, but"),
        ("model_type", ..., "'model_type' must name a model family, not None"),
        ("model_type", ["llada"], "'model_type' must name a model family, not ['llada']"),
        ("model_type", "\x1b[31m", r"'\x1b[31m'"),
        ("model_type", "iLLaDA", "model_type 'iLLaDA' is not supported: its layout is Llama's"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(key: str, value: Any, message: str, folder: Path) -> None:
    assert message in refusal(folder, {key: value})


@pytest.mark.parametrize("key", ["layer_norm_type", "activation_type", "rope", "weight_tying"])
def test_what_would_mean_another_network_if_it_were_absent_is_asked_for(
    key: str, tmp_path: Path, tiny_folders: dict[str, Path]
) -> None:
    folder = Path(shutil.copytree(tiny_folders["llada"], tmp_path / "llada"))
    assert f"it has no '{key}'" in refusal(folder, {key: ...})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", "must hold a JSON object, not list"),
        (b"null", "must hold a JSON object, not NoneType"),
        (b'"text"', "must hold a JSON object, not str"),
        (b"", "is not valid JSON"),
        (b"\xff\xfe{}", "is not valid JSON"),
        (b'{"n_layers": \x00}', "is not valid JSON"),
        (b"[" * 1_000_000, "is not valid JSON: it is nested too deep"),
        (b'{"a":' * 100_000, "is not valid JSON: it is nested too deep"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not valid JSON"),
        (b'{"a": "' + b"x" * 60_000_000 + b'"}', "is larger than 16 MiB"),
        (b'{"model_type": "llada", "model_type": "Dream"}', "has the key model_type twice"),
    ],
    ids=["list", "null", "text", "empty", "utf-16", "nul", "deep lists", "deep objects", "digits", "60 MB", "twice"],
)
def test_a_file_that_is_no_config_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    start = time.monotonic()
    with pytest.raises(UsageError, match=r"config\.json") as caught:
        load_model(tmp_path)
    assert time.monotonic() - start < 3
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(UsageError, match=r"has no config\.json"):
        load_model(tmp_path)


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_published_configs_are_read(model: str, tmp_path: Path) -> None:
    path = Path(__file__).parent / "conformance_cases" / "models" / model / "config.json"
    values = {**json.loads(path.read_text()), **PUBLISHED[model]}
    (tmp_path / "config.json").write_text(json.dumps(values))
    _, config = read_config(tmp_path)
    assert config.rope_theta == values["rope_theta"]
    assert config.head_dim == 128
    assert (config.mask_id, config.eos_id, config.eot_id) == (values["mask_token_id"], values["eos_token_id"], None)
