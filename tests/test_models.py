"""Reading checkpoints, and the network against a plain one."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from cache_zoo import Rows, Step, UsageError
from models import Transformer, load_model
from models.layers import Rotation
from models.loading import as_device, as_dtype
from models.tiny import make_tiny
from tests import processes


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


@pytest.fixture
def folder(tmp_path: Path, tiny_folders: dict[str, Path]) -> Path:
    return Path(shutil.copytree(tiny_folders["llada"], tmp_path / "checkpoint"))


def plain_logits(weights: dict[str, torch.Tensor], config: dict[str, Any], ids: torch.Tensor) -> torch.Tensor:
    """LLaDA's network as its paper describes it, one sequence, nothing fused, in float64."""
    weights = {name.removeprefix("model.transformer."): tensor.double() for name, tensor in weights.items()}
    heads, kv_heads, width = config["n_heads"], config["n_kv_heads"], config["d_model"]
    size, length = width // heads, len(ids)

    def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return weight * x / (x.pow(2).mean(dim=-1, keepdim=True) + config["rms_norm_eps"]).sqrt()

    def rotate(x: torch.Tensor) -> torch.Tensor:
        angle = torch.arange(length)[:, None] / config["rope_theta"] ** (torch.arange(0, size, 2) / size)
        turn = torch.polar(torch.ones_like(angle).double(), angle.double())
        first, second = x.chunk(2, dim=-1)
        turned = torch.complex(first, second) * turn
        return torch.cat((turned.real, turned.imag), dim=-1)

    x = weights["wte.weight"][ids]
    for n in range(config["n_layers"]):
        block = {name.removeprefix(f"blocks.{n}."): w for name, w in weights.items() if name.startswith(f"blocks.{n}.")}
        h = norm(x, block["attn_norm.weight"])
        q, k, v = (
            (h @ block[f"{name}_proj.weight"].T).view(length, -1, size).transpose(0, 1) for name in ("q", "k", "v")
        )
        k, v = (t.repeat_interleave(heads // kv_heads, dim=0) for t in (rotate(k), v))
        weights_of_keys = (rotate(q) @ k.transpose(1, 2) / math.sqrt(size)).softmax(dim=-1)
        x = x + (weights_of_keys @ v).transpose(0, 1).reshape(length, width) @ block["attn_out.weight"].T
        h = norm(x, block["ff_norm.weight"])
        inner = F.silu(h @ block["ff_proj.weight"].T) * (h @ block["up_proj.weight"].T)
        x = x + inner @ block["ff_out.weight"].T
    head = weights["wte.weight"] if config["weight_tying"] else weights["ff_out.weight"]
    return norm(x, weights["ln_f.weight"]) @ head.T


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_the_network_equals_a_plain_one(tmp_path: Path, tied: bool, kv_heads: int) -> None:
    """With tied embeddings, grouped keys and special tokens at other places, too."""
    folder = make_tiny(tmp_path, n_kv_heads=kv_heads, weight_tying=tied, mask_token_id=5, eot_token_id=None)
    model = load_model(folder)
    assert (model.config.mask_id, model.config.tied, model.config.num_kv_heads) == (5, tied, kv_heads)
    assert model.config.eot_id is None
    ids = torch.randint(0, 260, (17,), generator=torch.Generator().manual_seed(2))
    config = json.loads((folder / "config.json").read_text())
    expected = plain_logits(load_file(folder / "model.safetensors"), config, ids)
    torch.testing.assert_close(model.run(ids[None]).logits.double(), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_observed_attention_is_the_attention(family: str, tiny_models: dict[str, Transformer]) -> None:
    """Both paths mix the same values, and the observed weights are a distribution over the real keys."""
    from cache_zoo import KVCache

    model = tiny_models[family]

    class Watching(KVCache):
        needs_attention = True

        def observe_attention(self, layer: int, weights: torch.Tensor, step: Step) -> None:
            seen.append(weights)

    ids = torch.randint(0, 256, (2, 12), generator=torch.Generator().manual_seed(1))
    valid = torch.ones_like(ids, dtype=torch.bool)
    valid[1, :5] = False
    logits = []
    for cache in (Watching(), KVCache()):
        seen: list[torch.Tensor] = []
        step = Step(model.canvas(valid), ids, ~valid, ~valid)
        with torch.inference_mode():
            cache.start(step.canvas)
        logits.append(model.run(ids, cache=cache, step=step).logits)
        if isinstance(cache, Watching):
            assert len(seen) == model.config.num_layers
            for weights in seen:
                assert weights.shape == (12 + 7, 12)
                torch.testing.assert_close(weights.sum(dim=1), torch.ones(19))
                assert (weights[12:, :5] == 0).all(), "padding was attended"
    torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)


def test_only_the_rows_asked_for_run(tiny_models: dict[str, Transformer]) -> None:
    model = tiny_models["llada"]
    ids = torch.randint(0, 256, (1, 20), generator=torch.Generator().manual_seed(1))
    logit_rows = torch.zeros(1, 20, dtype=torch.bool)
    logit_rows[0, [3, 11]] = True
    full, part = model.run(ids), model.run(ids, logit_rows=logit_rows)
    torch.testing.assert_close(part.logits, full.logits[[3, 11]])
    assert (full.work.logits, part.work.logits) == (20, 2)
    assert full.work.feed_forward == [20] * model.config.num_layers
    config = model.config
    per_row = config.hidden_size * (sum(config.qkv_sizes) + config.hidden_size + 3 * config.intermediate_size)
    attention = 2 * 20 * 20 * config.hidden_size
    head = 20 * config.vocab_size * config.hidden_size
    assert full.work.flops == 2 * (config.num_layers * (20 * per_row + attention) + head)


def test_rows_pad_scatter_and_locate() -> None:
    mask = torch.tensor([[0, 1, 1, 0, 1], [0, 0, 0, 1, 0]]).bool()
    rows = Rows.from_mask(mask)
    packed = torch.arange(1.0, 5.0)
    assert rows.counts == [3, 1]
    assert rows.pad(packed).tolist() == [[1, 2, 3], [4, 0, 0]]
    assert rows.unpad(rows.pad(packed)).tolist() == packed.tolist()
    assert rows.scatter(packed).tolist() == [[0, 1, 2, 0, 3], [0, 0, 0, 4, 0]]
    assert rows.read(rows.scatter(packed)).tolist() == packed.tolist()
    assert rows.locate(torch.tensor([2, 8])).tolist() == [1, 3]
    assert rows.positions() == [[1, 2, 4], [3]]
    assert torch.equal(rows.mask, mask)


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_shards_load_as_one_file_does(family: str, tmp_path: Path, tiny_folders: dict[str, Path]) -> None:
    folder = Path(shutil.copytree(tiny_folders[family], tmp_path / "sharded"))
    whole = load_model(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    weight_map = {name: file for file, part in halves.items() for name in part}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    sharded = load_model(folder)
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, sharded.get_parameter(name)), name

    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UsageError, match=r"has no model-00002-of-00002\.safetensors"):
        load_model(folder)
    index.write_text("{}")
    with pytest.raises(UsageError, match="has no 'weight_map'"):
        load_model(folder)


def test_bfloat16_weights_are_read_in_the_dtype_asked_for(folder: Path) -> None:
    model = load_model(folder, dtype="bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.run(torch.arange(9)[None]).logits.dtype == torch.float32


def test_all_wrong_parameters_are_listed_in_one_error(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.transformer.ln_f.weight"]
    tensors["model.transformer.blocks.0.q_proj.bias"] = torch.zeros(32)
    tensors["model.transformer.blocks.1.k_proj.weight"] = torch.zeros(16, 32)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UsageError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert "missing model.transformer.ln_f.weight" in message
    assert "surplus model.transformer.blocks.0.q_proj.bias" in message
    assert "model.transformer.blocks.1.k_proj.weight has shape [16, 32], not [32, 32]" in message


def test_a_truncated_file_is_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"model\.safetensors is damaged or truncated"):
        load_model(folder)


def test_a_missing_weight_file_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"has no model\.safetensors"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "lladda"}, r"unknown model_type 'lladda'\. did you mean 'llada'\?"),
        ({"mask_token_id": ...}, "has no 'mask_token_id'"),
        ({"mask_token_id": 999}, "mask_id 999 is outside the vocabulary of 260"),
        ({"n_layers": "three"}, "'n_layers' must be a whole number, not 'three'"),
        ({"alibi": True}, "'alibi' is True; this layout is supported with False only"),
        ({"n_heads": 5}, "5 heads and 4 key/value heads do not fit"),
    ],
)
def test_a_bad_config_is_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit_config(folder, **changes)
    with pytest.raises(UsageError, match=message):
        load_model(folder)


def test_a_config_that_is_no_json_is_named(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(UsageError, match=r"config\.json is not valid JSON"):
        load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UsageError, match=r"has no config\.json"):
        load_model(folder)


@pytest.mark.parametrize("name", ["lada-inst", "llada-ins", "no/such/folder", "", "a\0b", "x" * 5000, "../llada"])
def test_unknown_models_are_named(name: str) -> None:
    with pytest.raises(UsageError, match="no model '"):
        load_model(name)


def test_the_nearest_model_is_named() -> None:
    with pytest.raises(UsageError, match=r"no model 'lada-inst'.*did you mean 'llada-inst'\?"):
        load_model("lada-inst")


@pytest.mark.parametrize("given", ["float32", "bfloat16", "float16", torch.bfloat16, "torch.float16"])
def test_dtypes_of_weights_are_floats_that_models_run_in(given: Any) -> None:
    assert str(as_dtype(given)).removeprefix("torch.") == str(given).removeprefix("torch.")


@pytest.mark.parametrize(
    "given",
    [
        *(
            "bfloat",
            "float8_e4m3fn",
            "float8_e5m2",
            "int8",
            "complex64",
            "float64",
            "double",
            "half",
            "bool",
            "",
            "auto",
        ),
        *("nn", "__name__", torch.int64, torch.float64, torch.complex64, None, 32),
    ],
    ids=str,
)
def test_other_dtypes_are_refused_with_the_choices(given: Any, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown dtype .*bfloat16, float16, float32"):
        load_model(folder, dtype=given)


@pytest.mark.parametrize("given", ["cpu", torch.device("cpu")])
def test_the_cpu_is_a_device(given: Any) -> None:
    assert as_device(given) == torch.device("cpu")


@pytest.mark.parametrize(
    "given",
    [
        *(
            "gpu",
            "gpu:0",
            "mps",
            "meta",
            "xla",
            "xpu",
            "cpu:0",
            "cpu:3",
            "CPU",
            "cuda:",
            "cuda:-1",
            "cuda:x",
            "cuda:01",
        ),
        *(
            "cuda:99999999999",
            "cuda 0",
            " cpu",
            "cpu\n",
            "",
            "auto",
            "hip",
            torch.device("meta"),
            torch.device("mps"),
            None,
            0,
        ),
    ],
    ids=repr,
)
def test_other_devices_are_refused_with_the_choices(given: Any, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown device .*the valid choices are cpu, cuda, cuda:0"):
        load_model(folder, device=given)


def test_gpu_means_cuda() -> None:
    with pytest.raises(UsageError, match=r"unknown device 'gpu'; did you mean 'cuda'\?"):
        as_device("gpu")


def test_a_gpu_that_is_not_there_is_refused_before_weights_are_read(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    name = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(UsageError, match=f"device '{name}' was asked for, but this machine has"):
        load_model(folder, device=name)
    assert as_device(name, present=False) == torch.device(name), "another machine may have it"


def test_rotation_is_relative(tiny_models: dict[str, Transformer]) -> None:
    """Products of rotated heads depend only on the distance of their positions."""
    model = tiny_models["llada"]
    heads = torch.randn(2, 1, model.config.head_dim, generator=torch.Generator().manual_seed(1))
    rows = Rows.from_mask(torch.ones(1, 2, dtype=torch.bool))

    def product(*positions: int) -> float:
        query, key = Rotation(model._angles(1024), torch.tensor([positions])).turn(heads, rows)
        return float((query * key).sum())

    assert product(503, 512) == pytest.approx(product(3, 12), abs=1e-4)
    assert abs(product(3, 300) - product(3, 12)) > 1e-2


def test_a_model_that_has_decoded_can_be_trained(tiny_folders: dict[str, Path]) -> None:
    model = load_model(tiny_folders["dream"]).requires_grad_(True)
    ids = torch.randint(0, 256, (2, 9), generator=torch.Generator().manual_seed(1))
    rows = torch.zeros_like(ids, dtype=torch.bool)
    rows[:, 3:5] = True
    expected = model.run(ids, logit_rows=rows).logits
    logits = model(ids, rows)
    torch.testing.assert_close(logits, expected)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_initial_weights_are_drawn_except_on_the_meta_device(folder: Path) -> None:
    """There PyTorch would import its compiler, which takes seconds."""
    config = load_model(folder).config
    assert float(Transformer(config).head.weight.detach().std()) > 0
    program = (
        "import sys; from models import load_model; load_model(sys.argv[1]); print('torch._dynamo' in sys.modules)"
    )
    done = processes.run(["-c", program, str(folder)])
    assert done.stdout == "False\n", done.stderr
