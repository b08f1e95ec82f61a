"""The weight files of a checkpoint folder: header checks before any memory is allocated, tensors and digest."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cache_zoo import UsageError
from cache_zoo.errors import require, short, shown
from models.config import Family, ModelConfig, Slot
from models.config_json import read_json

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""Supported stored dtypes. Quantised weights mean nothing without their scales."""
Problems = dict[str, list[str]]
"""Problems of the files, by kind."""
_MAX_LISTED = 10
"""Problems of each kind that an error lists."""


@dataclass(frozen=True)
class Stored:
    """A tensor as the header of its file describes it; ``dtype`` in safetensors' notation, such as ``BF16``."""

    path: Path
    dtype: str
    shape: tuple[int, ...]


class Weights:
    """The stored parameters of a checkpoint: model.safetensors, or shards and their index.

    Construction reads headers only.

    Attributes:
        slots: official parameter names to their destinations.
        stored: official parameter names to their place in the files, without the redundant head of a tied checkpoint.

    Raises:
        UsageError: a file is missing or damaged, or the files contradict index or config. One error lists all problems.
    """

    def __init__(self, folder: Path, family: Family, config: ModelConfig) -> None:
        index, problems = _index(folder), defaultdict[str, list[str]](list)
        paths = [folder / _WEIGHTS] if index is None else sorted({folder / name for name in index.values()})
        headers: dict[str, Stored] = {}
        for path in paths:
            for name, stored in _header(path):
                if name in headers:
                    problems["held twice"].append(f"{short(name)} is in {headers[name].path.name} and in {path.name}")
                headers[name] = stored
        require(
            config.num_layers <= len(headers),
            f"{folder}: config.json names {config.num_layers} layers, but the files hold {len(headers)} tensors",
        )
        for name, file in (index or {}).items():
            if name not in headers or headers[name].path != folder / file:
                problems["elsewhere"].append(f"the index has {short(name)} in {file}, which does not hold it")
        self.folder, self.slots = folder, family.slots(config)
        heads = family.slots(replace(config, tied=False)).keys() - self.slots.keys()
        redundant = {name: stored for name, stored in headers.items() if name in heads}
        self.stored = {name: stored for name, stored in headers.items() if name not in heads}
        _compare(self.stored, self.slots, problems)
        _report(problems, folder)
        for name, stored in redundant.items():
            self._check_tied(name, stored)

    def tensors(self) -> Iterator[tuple[str, Slot, Tensor]]:
        """All parameters: name, destination and a tensor that is read from the disk on use."""
        with ExitStack() as files:
            opened = {path: files.enter_context(_open(path)) for path in {one.path for one in self.stored.values()}}
            for name, stored in self.stored.items():
                yield name, self.slots[name], opened[stored.path].get_tensor(name)

    def sha256(self) -> str:
        """Digest of names, dtypes, shapes and bytes of all parameters, independent of their distribution over files."""

        def digest(parameter: tuple[str, Slot, Tensor]) -> str:
            name, _, tensor = parameter
            content = hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy().data).hexdigest()
            return f"{name} {self.stored[name].dtype} {list(tensor.shape)} {content}\n"

        with ThreadPoolExecutor() as pool:  # hashing releases the GIL
            lines = sorted(pool.map(digest, self.tensors()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def _check_tied(self, name: str, head: Stored) -> None:
        """An error unless the redundant head of a tied checkpoint equals its embedding."""
        embedding = next(official for official, slot in self.slots.items() if slot.parameter == "embedding.weight")
        message = f"{self.folder}: config.json ties the head to the embedding, but {name} and {embedding} differ"
        require((head.shape, head.dtype) == (self.stored[embedding].shape, self.stored[embedding].dtype), message)
        with _open(head.path) as ours, _open(self.stored[embedding].path) as theirs:
            require(torch.equal(ours.get_tensor(name), theirs.get_tensor(embedding)), message)


def _report(problems: Problems, folder: Path) -> None:
    """Raise one error that lists the first ten problems of each kind and counts the rest."""
    lines: list[str] = []
    for kind, texts in problems.items():
        lines += texts[:_MAX_LISTED]
        if len(texts) > _MAX_LISTED:
            lines.append(f"... and {len(texts) - _MAX_LISTED} more ({kind}: {len(texts)})")
    if lines:
        raise UsageError(f"{folder}: parameters do not match config.json:\n  " + "\n  ".join(lines))


def _compare(stored_tensors: dict[str, Stored], slots: dict[str, Slot], problems: Problems) -> None:
    for name in slots:
        if name not in stored_tensors:
            problems["missing"].append(f"missing {name}")
    for name, stored in stored_tensors.items():
        if name not in slots:
            problems["surplus"].append(f"surplus {short(name)}")
        elif stored.shape != slots[name].shape:
            problems["misshapen"].append(f"{name} has shape {shown([*stored.shape])}, not {[*slots[name].shape]}")
        elif stored.dtype not in _DTYPES:
            problems["of another type"].append(f"{name} holds {stored.dtype}, not one of {', '.join(_DTYPES)}")


def _index(folder: Path) -> dict[str, str] | None:
    """The file of each parameter according to the index of the shards; None without an index."""
    path = folder / _INDEX
    if not os.path.exists(path):
        return None
    weight_map = read_json(path).get("weight_map")
    require(isinstance(weight_map, dict) and bool(weight_map), f"{path} has no 'weight_map' of names to files")
    assert isinstance(weight_map, dict)
    for name, file in weight_map.items():
        good = isinstance(file, str) and file.endswith(".safetensors") and file.isprintable()
        inside = good and not PurePosixPath(file).is_absolute() and ".." not in PurePosixPath(file).parts
        require(
            inside, f"{path}: the file of {short(name)} must be a .safetensors file of this folder, not {shown(file)}"
        )
    require(
        PurePosixPath(_WEIGHTS) in map(PurePosixPath, weight_map.values()) or not os.path.exists(folder / _WEIGHTS),
        f"{folder} holds two sets of weights, {_WEIGHTS} and the shards of {_INDEX}; remove one of them",
    )
    return weight_map


def _header(path: Path) -> list[tuple[str, Stored]]:
    """Names and descriptions of the tensors in a file, from its header."""
    with _open(path) as tensors:
        parts = ((name, tensors.get_slice(name)) for name in tensors.keys())  # noqa: SIM118 - not a dict
        return [(name, Stored(path, part.get_dtype(), tuple(part.get_shape()))) for name, part in parts]


def _open(path: Path) -> Any:
    require(os.path.isfile(path), f"{path.parent} has no {path.name}")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is damaged or truncated: {short(str(error))}") from error
