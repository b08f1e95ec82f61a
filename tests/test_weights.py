"""Weight files: what is refused before memory is taken, and the digest of what is loaded."""

from __future__ import annotations

import json
import shutil
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
    weight_map = {}
    for file, part in zip(SHARDS, (names[::2], names[1::2]), strict=True):
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    write_index(folder, weight_map)
    return weight_map


def write_index(folder: Path, weight_map: object) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_the_digest_is_that_of_the_parameters(folder: Path) -> None:
    """Files, their order and what is beside them don't count; every bit, name and dtype of a parameter does."""
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
