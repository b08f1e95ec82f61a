"""Load published checkpoints: a local folder, a hub id or a name in ``configs/model``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from cache_zoo import UsageError
from cache_zoo.errors import first_line, require, require_choice, short, shown, suggest
from models.config import Family, ModelConfig
from models.config_json import ConfigReader, read_json
from models.dream import DREAM
from models.llada import LLADA
from models.transformer import Transformer
from models.weights import Weights

FAMILIES = (LLADA, DREAM)
_OTHER_LAYOUTS = {"illada": "its layout is Llama's with settings of its own, not LLaDA's"}
"""Values of ``model_type`` that resemble a supported one but mean another layout."""
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs" / "model"
"""Named models; relative paths in their files start at `ROOT`."""
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def load_model(
    name_or_folder: str | Path, dtype: torch.dtype | str = torch.float32, device: torch.device | str = "cpu"
) -> Transformer:
    """Load a masked diffusion language model in the layout of the published LLaDA and Dream checkpoints.

    Weights are read into place one tensor at a time. Code in a checkpoint is never executed.

    Args:
        name_or_folder: a folder with config.json and safetensors (one file or shards with their index), a hub id
            (``owner/name``), or a name in ``configs/model``.
        dtype: of the weights, a `torch.dtype` or its name: float32, bfloat16 or float16.
        device: of the weights: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: no such checkpoint; the config is of an unknown family, lacks a key or asks for another network; a
            file is damaged; parameters are missing, surplus or misshapen (one error lists them all); or a weight is
            NaN or infinite, in the file or in ``dtype``.
    """
    dtype, device = as_dtype(dtype), as_device(device)
    folder = resolve_checkpoint(name_or_folder)
    family, config = read_config(folder)
    weights = Weights(folder, family, config)
    with torch.device("meta"):
        model = Transformer(config)
    model = model.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    if config.tied:  # to_empty unties them
        model.head.weight = model.embedding.weight
    parameters = dict(model.named_parameters())
    for name, slot, tensor in weights.tensors():
        place = parameters[slot.parameter][slot.start : slot.stop]
        place.copy_(tensor)
        _check_finite(f"{folder}: {name}", tensor, place)
    return model


def weights_sha256(folder: Path) -> str:
    """Digest of the weights in a checkpoint folder, 64 hex digits.

    It covers name, stored dtype, shape and content of every parameter that `load_model` reads, but not their
    distribution over files, other files, or anything else in config.json.

    Raises:
        UsageError: as `load_model`, except for values.
    """
    return Weights(folder, *read_config(folder)).sha256()


def resolve_checkpoint(name_or_folder: str | Path) -> Path:
    """The local folder of a checkpoint; a hub id is downloaded first.

    Raises:
        UsageError: no folder, no name in ``configs/model`` and no available hub id.
    """
    name = str(name_or_folder)
    for folder in (os.path.expanduser(name), ROOT / name):  # configs name packaged models from ROOT
        if name and os.path.isdir(folder):  # False for impossible names, where pathlib raises
            return Path(folder)
    if is_choice(name):
        path = of_choice(name, "path")
        if path is None:
            raise UsageError(f"model '{name}' has no 'path' in {Path(name).name}.yaml")
        return resolve_checkpoint(path)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _download(name)
    known = [path.stem for path in CONFIGS.glob("*.yaml")]
    raise UsageError(f"no model '{short(name)}': it is neither a folder nor a known name. {suggest(name[:100], known)}")


def is_choice(name: str) -> bool:
    """Whether ``name`` is a file in ``configs/model``; a path is not: a run folder may hold any."""
    return os.path.basename(name) == name and os.path.isfile(CONFIGS / f"{name}.yaml")


def of_choice(name: str, key: str) -> Any:
    """The value of ``key`` in a file of ``configs/model``, or None.

    Raises:
        UsageError: the file is unreadable.
    """
    file = CONFIGS / f"{name}.yaml"
    try:
        return OmegaConf.select(OmegaConf.load(file), key)
    except Exception as error:  # from YAML, OmegaConf or the disk
        raise UsageError(f"{file} can't be read: {' '.join(str(error).split())}") from error


def read_config(folder: Path) -> tuple[Family, ModelConfig]:
    """Family and config of the checkpoint in ``folder``.

    Raises:
        UsageError: config.json is missing or damaged, of an unknown family, lacks a key or asks for another network.
    """
    path = folder / "config.json"
    values = read_json(path)
    given = values.get("model_type")
    require(isinstance(given, str), f"{path}: 'model_type' must name a model family, not {shown(given)}")
    model_type = str(given).lower()
    if reason := _OTHER_LAYOUTS.get(model_type):
        raise UsageError(f"{path}: model_type '{given}' is not supported: {reason}")
    families = {name: family for family in FAMILIES for name in family.model_types}
    if model_type not in families:
        raise UsageError(f"{path}: unknown model_type '{short(str(given))}'. {suggest(model_type[:100], families)}")
    try:
        return families[model_type], families[model_type].read_config(ConfigReader(values))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def find_family(name: str) -> Family:
    """The model family ``name``.

    Raises:
        UsageError: unknown family.
    """
    families = {family.name: family for family in FAMILIES}
    require_choice("family", name, families)
    return families[name]


def as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """A dtype of weights, from itself or its name.

    Raises:
        UsageError: it is not float32, bfloat16 or float16.
    """
    name = str(dtype).removeprefix("torch.")
    require_choice("dtype", name, _DTYPES)
    return _DTYPES[name]


def as_device(device: torch.device | str, *, present: bool = True) -> torch.device:
    """A device, from itself or its name.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        present: this machine must have it; False if a run is only read, or will run elsewhere.

    Raises:
        UsageError: invalid name, or this machine has no such GPU.
    """
    name = str(device)
    if not re.fullmatch(r"cpu|cuda(:(0|[1-9][0-9]{0,3}))?", name):
        meant = "; did you mean 'cuda'?" if name.startswith("gpu") else ""
        raise UsageError(f"unknown device {name!r}{meant or ':'} the valid choices are cpu, cuda, cuda:0, cuda:1, ...")
    device, gpus = torch.device(name), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if present and device.type == "cuda" and (device.index or 0) >= gpus:
        has = f"{gpus} GPUs, cuda:0 to cuda:{gpus - 1}" if gpus else "no GPU that CUDA can use; try cpu"
        raise UsageError(f"device '{name}' was asked for, but this machine has {has}")
    return device


def _check_finite(name: str, tensor: Tensor, loaded: Tensor) -> None:
    """An error if ``loaded``, which is ``tensor`` in another dtype, has weights that are NaN or infinite."""
    low, high = loaded.aminmax()  # of a NaN both are
    if torch.isfinite(torch.stack((low, high))).all():
        return
    if torch.isfinite(torch.stack(tensor.aminmax())).all():
        raise UsageError(f"{name} has weights that {str(loaded.dtype)[6:]} can't hold; use bfloat16 or float32")
    raise UsageError(f"{name} has weights that are NaN or infinite")


def _download(name: str) -> Path:
    """The snapshot of a hub repository."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except Exception as error:  # the hub client and its HTTP library raise many kinds
        raise UsageError(
            f"model '{name}' is no local folder and not available from the hub ({first_line(error)}); "
            "give a folder with config.json and safetensors, or a name in configs/model"
        ) from error
