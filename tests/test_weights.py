"""Weight files: errors before memory is allocated, and the digest of loaded weights."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cache_zoo import UsageError
from models import load_model
from models.loading import weights_sha256
from models.tiny import make_tiny

Tensors = dict[str, torch.Tensor]
FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
NORM, HEAD, EMBEDDING = (f"model.transformer.{name}.weight" for name in ("ln_f", "ff_out", "wte"))


@pytest.fixture
def folder(tmp_path: Path, tiny_folders: dict[str, Path]) -> Path:
    return Path(shutil.copytree(tiny_folders["llada"], tmp_path / "checkpoint"))


def edit(folder: Path, change: Callable[[Tensors], object]) -> None:
    """Change the tensors of a checkpoint of one file."""
    tensors = load_file(folder / FILE)
    change(tensors)
    save_file(tensors, folder / FILE)


def shard(folder: Path) -> dict[str, str]:
    """Spread the tensors of a checkpoint over two files; returns the index that was written."""
    tensors = load_file(folder / FILE)
    (folder / FILE).unlink()
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for file, part in zip(SHARDS, (names[::2], names[1::2]), strict=True):
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    write_index(folder, weight_map)
    return weight_map


def write_index(folder: Path, weight_map: object) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_the_digest_is_that_of_the_parameters(folder: Path) -> None:
    """The digest ignores files, their order and other files; it covers every bit, name and dtype."""
    digest = weights_sha256(folder)
    assert len(digest) == 64
    (folder / "README.md").write_text("another file")
    shard(folder)
    assert weights_sha256(folder) == digest
    for path in SHARDS:
        (folder / path).unlink()
    (folder / INDEX).unlink()

    make_tiny(folder, "llada", d_model=32, n_layers=3, mlp_hidden_size=64)
    assert weights_sha256(folder) == digest, "the same seed makes the same weights"
    edit(folder, lambda tensors: tensors[NORM][3].mul_(1.0001))
    changed = weights_sha256(folder)
    edit(folder, lambda tensors: tensors.update({NORM: tensors[NORM].double()}))
    assert len({digest, changed, weights_sha256(folder)}) == 3


def test_no_digest_is_made_of_what_would_not_load(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.pop(NORM))
    with pytest.raises(UsageError, match=f"missing {NORM}"):
        weights_sha256(folder)
    (folder / FILE).write_bytes(b"")
    with pytest.raises(UsageError, match=r"model\.safetensors is damaged or truncated"):
        weights_sha256(folder)


def test_a_sharded_checkpoint_loads(folder: Path) -> None:
    whole = dict(load_model(folder).named_parameters())
    shard(folder)
    assert all(torch.equal(whole[name], parameter) for name, parameter in load_model(folder).named_parameters())


def test_two_sets_of_weights_are_refused(folder: Path) -> None:
    """Which of them a library reads differs; an index that names the one file is no second set."""
    content = (folder / FILE).read_bytes()
    shard(folder)
    (folder / FILE).write_bytes(content)
    assert f"holds two sets of weights, {FILE} and the shards of {INDEX}" in refusal(folder)
    write_index(folder, dict.fromkeys(load_file(folder / FILE), FILE))
    assert load_model(folder).config.num_layers == 3


def refusal(folder: Path) -> str:
    """The error, which comes at once and is short."""
    start = time.monotonic()
    with pytest.raises(UsageError) as caught:
        load_model(folder)
    assert time.monotonic() - start < 3
    assert len(str(caught.value)) < 4000
    assert str(folder) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "file", ["../other/model.safetensors", "/etc/passwd", "a/../../x.safetensors", "..", "", "x.bin"]
)
def test_an_index_stays_within_its_folder(file: str, folder: Path) -> None:
    weight_map = shard(folder)
    write_index(folder, {**weight_map, NORM: file})
    assert f"the file of {NORM} must be a .safetensors file of this folder, not {file!r}" in refusal(folder)


def test_an_absolute_file_is_refused_though_it_is_the_right_one(folder: Path) -> None:
    weight_map = shard(folder)
    write_index(folder, {name: str(folder / file) for name, file in weight_map.items()})
    assert "must be a .safetensors file of this folder" in refusal(folder)


def test_an_index_may_spell_a_file_in_two_ways(folder: Path) -> None:
    weight_map = shard(folder)
    write_index(folder, {**weight_map, NORM: f"./{weight_map[NORM]}"})
    assert load_model(folder).config.num_layers == 3


def test_a_link_out_of_the_folder_is_followed(folder: Path, tmp_path: Path) -> None:
    """The hub's cache has this layout."""
    (folder / FILE).rename(tmp_path / "blob")
    (folder / FILE).symlink_to(tmp_path / "blob")
    assert load_model(folder).config.num_layers == 3


@pytest.mark.parametrize("weight_map", [None, [], {}, 3, "model.safetensors", [["a", "b"]], True])
def test_an_index_without_a_map_is_refused(weight_map: object, folder: Path) -> None:
    write_index(folder, weight_map)
    assert "has no 'weight_map' of names to files" in refusal(folder)


@pytest.mark.parametrize(
    "file", [1, None, [], ["model.safetensors"], {}, True, 1.5, "a\x00.safetensors", "\x1b.safetensors"]
)
def test_a_file_in_the_index_that_is_no_name_is_refused(file: object, folder: Path) -> None:
    write_index(folder, {**shard(folder), NORM: file})
    message = refusal(folder)
    assert f"the file of {NORM} must be" in message
    assert message.isprintable()


def test_a_name_in_two_shards_is_refused(folder: Path) -> None:
    weight_map = shard(folder)
    other = next(file for file in SHARDS if file != weight_map[NORM])
    save_file({**load_file(folder / other), NORM: torch.zeros(32)}, folder / other)
    assert f"{NORM} is in {SHARDS[0]} and in {SHARDS[1]}" in refusal(folder)


def test_a_name_that_the_index_has_twice_is_refused(folder: Path) -> None:
    text = json.dumps({"weight_map": shard(folder)})
    (folder / INDEX).write_text(text.replace("}}", f', "{NORM}": "{SHARDS[0]}"}}}}'))
    assert f"has the key {NORM} twice" in refusal(folder)


def test_an_index_that_names_another_shard_is_refused(folder: Path) -> None:
    weight_map = shard(folder)
    other = next(file for file in SHARDS if file != weight_map[NORM])
    write_index(folder, {**weight_map, NORM: other})
    assert f"the index has {NORM} in {other}, which does not hold it" in refusal(folder)


def test_an_index_that_names_what_is_nowhere_is_refused(folder: Path) -> None:
    write_index(folder, {**shard(folder), "rotary.inv_freq": SHARDS[0]})
    assert f"the index has rotary.inv_freq in {SHARDS[0]}, which does not hold it" in refusal(folder)


def test_an_index_that_leaves_a_shard_out_is_refused(folder: Path) -> None:
    weight_map = shard(folder)
    write_index(folder, {name: file for name, file in weight_map.items() if file == SHARDS[0]})
    assert "missing " in refusal(folder)


def test_of_5000_surplus_names_ten_are_listed(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({f"more.{n:04}": torch.zeros(1) for n in range(5000)}))
    message = refusal(folder)
    assert message.count("surplus more.") == 10
    assert "... and 4990 more (surplus: 5000)" in message


def test_names_that_are_no_plain_text_are_escaped(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({"a\x1b[31m\n": torch.zeros(1), "x" * 5000: torch.zeros(1)}))
    assert r"surplus a\x1b[31m\n" in refusal(folder)


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "bool", "complex64", "float8_e4m3fn"])
def test_weights_that_are_no_real_numbers_are_refused(dtype: str, folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({NORM: tensors[NORM].to(getattr(torch, dtype))}))
    message = refusal(folder)
    assert f"{NORM} holds " in message
    assert "not one of F64, F32, BF16, F16" in message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [NORM, HEAD, "model.transformer.blocks.2.ff_proj.weight"])
def test_a_weight_that_is_no_number_is_refused(name: str, value: float, folder: Path) -> None:
    edit(folder, lambda tensors: tensors[name].view(-1)[-1:].fill_(value))
    assert f"{name} has weights that are NaN or infinite" in refusal(folder)


def test_weights_that_the_dtype_cannot_hold_are_refused(folder: Path) -> None:
    edit(folder, lambda tensors: tensors[HEAD][3, 3].fill_(1e6))
    assert load_model(folder, "bfloat16").head.weight.max() > 9e5
    with pytest.raises(UsageError, match=f"{HEAD} has weights that float16 can't hold; use bfloat16 or float32"):
        load_model(folder, "float16")


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_a_tied_checkpoint_may_hold_its_head_once_more(family: str, tmp_path: Path) -> None:
    head, embedding, key = {
        "llada": (HEAD, EMBEDDING, "weight_tying"),
        "dream": ("lm_head.weight", "model.embed_tokens.weight", "tie_word_embeddings"),
    }[family]
    folder = make_tiny(tmp_path / family, family, **{key: True})
    alone, digest = load_model(folder), weights_sha256(folder)
    edit(folder, lambda tensors: tensors.update({head: tensors[embedding].clone()}))
    model = load_model(folder)
    assert model.head.weight is model.embedding.weight
    assert torch.equal(model.head.weight, alone.head.weight)
    assert weights_sha256(folder) == digest

    edit(folder, lambda tensors: tensors[head][7, 7].add_(0.01))
    assert f"ties the head to the embedding, but {head} and {embedding} differ" in refusal(folder)
    edit(folder, lambda tensors: tensors.update({head: torch.zeros(3)}))
    assert "differ" in refusal(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        b"\xff" * 64,
        (10**12).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (40).to_bytes(8, "little") + b'{"a": {"dtype": "F32", "shape": [9]}}   ',
        (66).to_bytes(8, "little") + b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8000]}}  ',
        b"<html>not found</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n",
    ],
    ids=["empty", "short", "ff", "huge header", "list", "no offsets", "offsets", "html", "lfs"],
)
def test_a_file_that_is_no_safetensors_is_named(content: bytes, folder: Path) -> None:
    (folder / FILE).write_bytes(content)
    assert "model.safetensors is damaged or truncated" in refusal(folder)


@pytest.mark.parametrize("kept", [4, 100, 2000, 0.5, -1])
def test_a_truncated_file_is_named(kept: float, folder: Path) -> None:
    content = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert "model.safetensors is damaged or truncated" in refusal(folder)


def test_what_is_no_plain_file_is_not_read(folder: Path) -> None:
    (folder / FILE).unlink()
    (folder / FILE).mkdir()
    assert "has no model.safetensors" in refusal(folder)
    (folder / FILE).rmdir()
    os.mkfifo(folder / FILE)
    assert "has no model.safetensors" in refusal(folder)


def test_an_empty_file_of_weights_lists_what_is_missing(folder: Path) -> None:
    save_file({}, folder / FILE)
    assert "config.json names 3 layers, but the files hold 0 tensors" in refusal(folder)
