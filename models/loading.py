"""Reading published checkpoints: a local folder, a hub id or a name of ``configs/model``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors import SafetensorError, safe_open

from cache_zoo import UsageError
from cache_zoo.errors import suggest
from models.config import ConfigReader, Family, ModelConfig, Slot
from models.dream import DREAM
from models.llada import LLADA
from models.transformer import Transformer

FAMILIES = (LLADA, DREAM)
_ROOT = Path(__file__).resolve().parent.parent
_CONFIGS = _ROOT / "configs" / "model"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def load_model(
    name_or_folder: str | Path, dtype: torch.dtype | str = torch.float32, device: torch.device | str = "cpu"
) -> Transformer:
    """Load a masked diffusion language model in the layout of the published LLaDA and Dream checkpoints.

    Weights are read straight into place, one tensor at a time. Code that comes with a checkpoint is never executed.

    Args:
        name_or_folder: a folder with config.json and safetensors (one file or shards with their index), a hub id
            (``owner/name``), or a name of ``configs/model``.
        dtype: dtype of the weights, a `torch.dtype` or its name.
        device: where the weights go.

    Raises:
        UsageError: nothing is there, the config is of an unknown family or lacks a key, a file is damaged, or
            parameters are missing, surplus or misshapen (one error lists them all).
    """
    folder = resolve_checkpoint(name_or_folder)
    family, config = read_config(folder)
    device, dtype = _as_device(device), as_dtype(dtype)
    files = _checked_files(folder, family.slots(config))
    with torch.device("meta"):
        model = Transformer(config)
    model = model.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    if config.tied:  # to_empty gives each of two tied parameters a memory of its own
        model.head.weight = model.embedding.weight
    parameters, slots = dict(model.named_parameters()), family.slots(config)
    for path in files:
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                slot = slots[name]
                parameters[slot.parameter][slot.start : slot.stop].copy_(tensors.get_tensor(name))
    return model


def resolve_checkpoint(name_or_folder: str | Path) -> Path:
    """The local folder of a checkpoint; a hub id is downloaded first.

    Raises:
        UsageError: it is no folder, no name of ``configs/model`` and no hub id that can be had.
    """
    name = str(name_or_folder)
    for folder in (Path(name).expanduser(), _ROOT / name):  # configs name what comes with the package from its root
        if folder.is_dir():
            return folder
    named = _CONFIGS / f"{name}.yaml"
    if named.is_file():
        path = OmegaConf.select(OmegaConf.load(named), "path")
        if path is None:
            raise UsageError(f"model '{name}' has no 'path' in {named.name}")
        return resolve_checkpoint(path)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _download(name)
    known = [path.stem for path in _CONFIGS.glob("*.yaml")]
    raise UsageError(f"no model '{name}': it is neither a folder nor a known name. {suggest(name, known)}")


def read_config(folder: Path) -> tuple[Family, ModelConfig]:
    """Family and config of the checkpoint in ``folder``."""
    path = folder / "config.json"
    values = read_json(path)
    model_type = str(values.get("model_type", "")).lower()
    for family in FAMILIES:
        if model_type in family.model_types:
            config = family.read_config(ConfigReader(values, str(path)))
            return family, config
    known = [name for family in FAMILIES for name in family.model_types]
    raise UsageError(f"{path}: unknown model_type '{values.get('model_type')}'. {suggest(model_type, known)}")


def find_family(name: str) -> Family:
    """The model family called ``name``.

    Raises:
        UsageError: there is none.
    """
    for family in FAMILIES:
        if family.name == name:
            return family
    raise UsageError(f"unknown family '{name}': {suggest(name, [family.name for family in FAMILIES])}")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UsageError: the file is missing or is not a JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path.parent} has no {path.name}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold a JSON object, not {type(values).__name__}")
    return values


def as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """A floating-point `torch.dtype` from itself or its name."""
    found = dtype if isinstance(dtype, torch.dtype) else getattr(torch, str(dtype), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise UsageError(f"unknown dtype '{dtype}': {suggest(str(dtype), ('float32', 'bfloat16', 'float16'))}")
    return found


def _as_device(device: torch.device | str) -> torch.device:
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"unknown device '{device}': {error}") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device '{device}' was asked for, but CUDA is not available here; try device=cpu")
    return found


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


def _checked_files(folder: Path, slots: dict[str, Slot]) -> list[Path]:
    """The weight files of ``folder``, once their headers were found to hold exactly the parameters of ``slots``."""
    index = folder / _INDEX
    if index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise UsageError(f"{index} has no 'weight_map'")
        files = [folder / name for name in sorted(set(weight_map.values()))]
    else:
        files = [folder / _WEIGHTS]
    found: dict[str, tuple[int, ...]] = {}
    for path in files:
        if not path.is_file():
            raise UsageError(f"{folder} has no {path.name}")
        try:
            with safe_open(path, framework="pt") as tensors:
                found |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UsageError(f"{path} is damaged or truncated: {error}") from error
    problems = [f"missing {name}" for name in slots if name not in found]
    problems += [f"surplus {name}" for name in found if name not in slots]
    problems += [
        f"{name} has shape {list(found[name])}, not {list(slot.shape)}"
        for name, slot in slots.items()
        if name in found and found[name] != slot.shape
    ]
    if problems:
        raise UsageError(f"{folder}: parameters do not match config.json:\n  " + "\n  ".join(problems))
    return files
