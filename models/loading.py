"""Reading published checkpoints: a local folder, a hub id or a name of ``configs/model``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from cache_zoo import UsageError
from cache_zoo.errors import require, short, shown, suggest
from models.config import Family, ModelConfig
from models.config_json import ConfigReader, read_json
from models.dream import DREAM
from models.llada import LLADA
from models.transformer import Transformer
from models.weights import Weights

FAMILIES = (LLADA, DREAM)
_OTHER_LAYOUTS = {"illada": "its layout is Llama's with settings of its own, not LLaDA's"}
"""Values of ``model_type`` that are no misspelling of one that is supported."""
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs" / "model"
"""Names of models; paths in there that are relative are so to `ROOT`."""
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def load_model(
    name_or_folder: str | Path, dtype: torch.dtype | str = torch.float32, device: torch.device | str = "cpu"
) -> Transformer:
    """Load a masked diffusion language model in the layout of the published LLaDA and Dream checkpoints.

    Weights are read straight into place, one tensor at a time. Code that comes with a checkpoint is never executed.

    Args:
        name_or_folder: a folder with config.json and safetensors (one file or shards with their index), a hub id
            (``owner/name``), or a name of ``configs/model``.
        dtype: dtype of the weights, a `torch.dtype` or its name: float32, bfloat16 or float16.
        device: where the weights go: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: nothing is there, the config is of an unknown family, lacks a key or asks for another network, a
            file is damaged, or parameters are missing, surplus or misshapen (one error lists them all); or a weight is
            NaN or infinite, in the file or once it is in ``dtype``.
    """
    dtype, device = as_dtype(dtype), as_device(device)
    folder = resolve_checkpoint(name_or_folder)
    family, config = read_config(folder)
    weights = Weights(folder, family, config)
    with torch.device("meta"):
        model = Transformer(config)
    model = model.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    if config.tied:  # to_empty gives each of two tied parameters a memory of its own
        model.head.weight = model.embedding.weight
    parameters = dict(model.named_parameters())
    for name, slot, tensor in weights.tensors():
        place = parameters[slot.parameter][slot.start : slot.stop]
        place.copy_(tensor)
        _check_finite(f"{folder}: {name}", tensor, place)
    return model


def weights_sha256(folder: Path) -> str:
    """Digest of the weights of a checkpoint folder, 64 hex digits, at the speed of the disk and of the processor.

    It covers name, stored dtype, shape and content of every parameter that `load_model` reads. How they are spread over
    files, other files, and what config.json says beside the parameters' names and shapes don't count.

    Raises:
        UsageError: as `load_model`, but values are not looked at.
    """
    return Weights(folder, *read_config(folder)).sha256()


def resolve_checkpoint(name_or_folder: str | Path) -> Path:
    """The local folder of a checkpoint; a hub id is downloaded first.

    Raises:
        UsageError: it is no folder, no name of ``configs/model`` and no hub id that can be had.
    """
    name = str(name_or_folder)
    for folder in (os.path.expanduser(name), ROOT / name):  # configs name what comes with the package from its root
        if name and os.path.isdir(folder):  # False of names that can't be, where pathlib raises
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
    """Whether there is such a file in ``configs/model``. A path is none: a run folder may hold any."""
    return os.path.basename(name) == name and os.path.isfile(CONFIGS / f"{name}.yaml")


def of_choice(name: str, key: str) -> Any:
    """What a file of ``configs/model`` has under a key; None where it has nothing.

    Raises:
        UsageError: it can't be read.
    """
    file = CONFIGS / f"{name}.yaml"
    try:
        return OmegaConf.select(OmegaConf.load(file), key)
    except Exception as error:  # of YAML, of OmegaConf, of the disk
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
    for family in FAMILIES:
        if model_type in family.model_types:
            try:
                return family, family.read_config(ConfigReader(values))
            except UsageError as error:
                raise UsageError(f"{path}: {error}") from None
    if reason := _OTHER_LAYOUTS.get(model_type):
        raise UsageError(f"{path}: model_type '{given}' is not supported: {reason}")
    known = [name for family in FAMILIES for name in family.model_types]
    raise UsageError(f"{path}: unknown model_type '{short(str(given))}'. {suggest(model_type[:100], known)}")


def find_family(name: str) -> Family:
    """The model family called ``name``.

    Raises:
        UsageError: there is none.
    """
    for family in FAMILIES:
        if family.name == name:
            return family
    raise UsageError(f"unknown family '{name}': {suggest(name, [family.name for family in FAMILIES])}")


def as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """The `torch.dtype` of weights from itself or its name.

    Raises:
        UsageError: it is not float32, bfloat16 or float16.
    """
    found = _DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise UsageError(f"unknown dtype '{dtype}': {suggest(str(dtype), _DTYPES)}")
    return found


def as_device(device: torch.device | str, *, present: bool = True) -> torch.device:
    """The `torch.device` from itself or its name.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        present: this machine must have it; False where a run is only read, or will run on another machine.

    Raises:
        UsageError: it is no such name, or this machine has no such GPU.
    """
    name = str(device)
    if not re.fullmatch(r"cpu|cuda(:(0|[1-9][0-9]{0,3}))?", name):
        meant = "; did you mean 'cuda'?" if name.startswith("gpu") else ""
        raise UsageError(f"unknown device {name!r}{meant or ':'} the valid choices are cpu, cuda, cuda:0, cuda:1, ...")
    found, gpus = torch.device(name), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if present and found.type == "cuda" and (found.index or 0) >= gpus:
        has = f"{gpus} GPUs, cuda:0 to cuda:{gpus - 1}" if gpus else "no GPU that CUDA can use; try cpu"
        raise UsageError(f"device '{name}' was asked for, but this machine has {has}")
    return found


def _check_finite(name: str, tensor: Tensor, loaded: Tensor) -> None:
    """An error if a weight is no number in ``loaded``, which is ``tensor`` in the dtype asked for."""
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
    except Exception as error:  # the hub client raises many kinds, of its own and of its HTTP library
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"model '{name}' is no local folder and can't be had from the hub ({reason}); "
            "give a folder with config.json and safetensors, or a name of configs/model"
        ) from error
