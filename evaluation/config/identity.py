"""What makes two runs the same: the meaning of their configurations, not the spelling.

It works on plain data, from this process or from an untrusted ``config.yaml``: it imports no class, reads no file and
evaluates nothing. docs/results.md has the rules in words.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, TypeGuard

from cache_zoo import UsageError
from cache_zoo.errors import require
from evaluation.config.task_table import OWN_TASKS

BASELINE = {"cache": "none", "suffix": "all", "store": "native"}
"""The method of a baseline, by group or key: no cache, nothing dropped. The method is what may differ between runs that
are compared; the rest is their `setting`."""

NOT_COUNTED = "output_dir recipe attn_implementation sandbox_disable force retry jobs trace".split()
"""Keys that do not define a run: its place, the origin of its values, what to do with it."""

NEUTRAL: dict[str, Any] = {
    "suffix.name": BASELINE["suffix"],
    "store": BASELINE["store"],
    "model.system_prompt": None,
    "model.end_tokens": [],
    "model.stop_words": [],
    "generation.schedule": "even",
    "generation.eps": 0.001,
    "generation.steps": None,
    "generation.threshold": None,
    "generation.factor": None,
    "generation.frechet": None,
    "generation.gamma": None,
    "generation.alpha": None,
    "generation.alg": "maskgit_plus",
    "generation.alg_temp": None,
    "generation.debias": None,
    "generation.debias_clip": 10,
    "generation.debias_sha256": None,
    "generation.sigma": None,
    "generation.temperature": 0,
    "generation.top_p": None,
    "generation.top_k": None,
    "generation.factor_rule": "exact",
    "generation.first_forward": "decode",
    "generation.cfg_scale": 0,
    "generation.eos": None,
    "generation.stop_until_eos": False,
    "generation.logits_eos_inf": False,
    "generation.confidence_eos_eot_inf": False,
    "dataset.path": None,
    "dataset.size": None,
    "dataset.n_shot": None,
    "dataset.system_prompt": None,
    "likelihood.estimator": None,
    "include_path": None,
    "allow_code_execution": False,
}
"""Values that mean the same as a missing key. A new key needs one, so that earlier runs keep their names."""

_RULES = ("threshold", "factor", "frechet", "gamma")
"""As `generation.options.RULES`, which would load torch."""
_NOT_COMPARED = ("dataset.path", "allow_code_execution")
"""Compared otherwise: by the digest of the data, and by whether there is a score."""
_DEPTH = 20
_LARGEST = 2**64


def counted(config: Mapping[str, Any]) -> dict[str, Any]:
    """What defines a run, flat (``{"model.name": ...}``); configurations for which it is equal are the same run.

    Args:
        config: the resolved configuration, nested by group.

    Raises:
        UsageError: an impossible value.
    """
    values = _normal(config)
    return {key: value for key, value in values.items() if key not in NEUTRAL or value != NEUTRAL[key]}


def setting(config: Mapping[str, Any]) -> dict[str, Any]:
    """What two runs must share to be compared, flat: everything but the method and the place of the data.

    The method is cache, suffix and store: three ways to do less work for one decoding, so they have one baseline, the
    run that does all of it. Options of the decoder are no part of it, even where a paper brings them along with its
    cache: a threshold speeds up every cache and would be taken for the effect of one.

    Raises:
        UsageError: as in `counted`.
    """
    values = _normal(config)
    return {key: values[key] for key in values if not _of_method(key) and key not in _NOT_COMPARED}


def is_baseline(config: Mapping[str, Any]) -> bool:
    """Whether a run has no cache, sees the whole suffix and stores natively.

    Raises:
        UsageError: as in `counted`.
    """
    method = {key: value for key, value in counted(config).items() if _of_method(key)}
    return method == {"cache.name": BASELINE["cache"]}


def config_hash(config: Mapping[str, Any]) -> str:
    """Eight hex digits of `counted`."""
    return hashlib.sha256(json.dumps(counted(config), sort_keys=True).encode()).hexdigest()[:8]


def run_name(config: Mapping[str, Any]) -> str:
    """Name of the run folder: model, method, strategy, dataset and `config_hash`.

    The method is the name of the cache, followed by suffix and store where they are not those of a baseline:
    ``dual+window+int8``.
    """
    values = {**NEUTRAL, **_flat(config)}
    others = {"suffix": _label(values, "suffix"), "store": values["store"]}
    added = [name for key, name in others.items() if name != BASELINE[key]]
    method = "+".join(map(str, [_label(values, "cache"), *added]))
    axes = (values.get("model.name"), method, values.get("generation.strategy"), values.get("dataset.name"))
    return "__".join([*(str(axis).replace("/", "-") for axis in axes), config_hash(config)])


def _label(values: Mapping[str, Any], group: str) -> Any:
    """Name of the class that a group chooses."""
    target = values.get(f"{group}._target_")
    return str(target).rpartition(".")[2] if target else values.get(f"{group}.name")


def _of_method(key: str) -> bool:
    return key.split(".")[0] in BASELINE


def _normal(config: Mapping[str, Any]) -> dict[str, Any]:
    values = {**NEUTRAL, **_flat(config)}
    _model(values)
    _dataset(values)
    _generation(values)
    for group in ("cache", "suffix"):
        if f"{group}._target_" in values:
            values.pop(f"{group}.name", None)  # from the choice that the class was added to
    family = values.pop("model.family", None)  # the weights decide; another family is refused
    if values["likelihood.estimator"] == family:
        values["likelihood.estimator"] = None
    return dict(sorted(values.items()))


def _model(values: dict[str, Any]) -> None:
    prompts = [values.pop("dataset.system_prompt"), values["model.system_prompt"]]
    texts = [text for text in prompts if text]
    # as the model gets them
    values["model.system_prompt"] = "\n\n".join(map(str, texts)) if texts else None
    for key in ("model.end_tokens", "model.stop_words"):
        if _texts(values[key]):
            values[key] = sorted(set(values[key]))
    if re.fullmatch(r"cuda:\d{1,4}", str(values.get("model.device"))):
        values["model.device"] = "cuda"
    _path(values, "model.path")


def _dataset(values: dict[str, Any]) -> None:
    name = values.get("dataset.name")
    task = OWN_TASKS.get(name) if isinstance(name, str) else None
    if task is not None:
        values["include_path"] = None  # it cannot replace a task of the package
        if values["dataset.n_shot"] is None:
            values["dataset.n_shot"] = task.shots
    if task is None or not task.runs_code:
        values["allow_code_execution"] = False  # no effect
    _path(values, "dataset.path")
    _path(values, "include_path")


def _generation(values: dict[str, Any]) -> None:
    length, block = values.get("generation.gen_length"), values.get("generation.block_length")
    if block is None and "generation.block_length" in values:
        block = values["generation.block_length"] = length
    if values["generation.factor"] is None:
        values["generation.factor_rule"] = "exact"  # no effect
    if values["generation.debias"] is None:
        values["generation.debias_clip"] = NEUTRAL["generation.debias_clip"]  # no effect
    elif values["generation.debias_sha256"] is not None:
        values["generation.debias"] = None  # its content counts, not its place
    if values["generation.top_p"] == 1:
        values["generation.top_p"] = None
    if values["generation.alg"] in ("random", "origin", "ar") and values["generation.temperature"] == 0:
        values |= {"generation.top_p": None, "generation.top_k": None}  # no effect
    if values["generation.logits_eos_inf"] is True:
        values["generation.stop_until_eos"] = False  # no such token appears
    if values.get("generation.strategy") != "vanilla":
        return  # other strategies may read options differently
    for key in ("sigma", "alpha", "alg_temp"):
        if values[f"generation.{key}"] == 0:
            values[f"generation.{key}"] = None
    if values["generation.logits_eos_inf"] is True:
        values["generation.eos"] = None  # as above
    if values["generation.schedule"] != "even":
        return  # steps are read differently
    values["generation.eps"] = NEUTRAL["generation.eps"]  # no effect
    number = _tokens_per_forward(length, block, values["generation.steps"])
    if number is not None:
        values |= {"generation.steps": None, "generation.num_transfer_tokens": number}
    number = values.get("generation.num_transfer_tokens")
    if values["generation.steps"] is None and _positive(number) and _positive(block) and number >= block:
        # each forward commits a whole block: no rule has a choice
        for key in (*_RULES, "alpha", "sigma", "debias", "debias_clip", "debias_sha256"):
            values[f"generation.{key}"] = NEUTRAL[f"generation.{key}"]
        values["generation.num_transfer_tokens"] = block


def _tokens_per_forward(length: Any, block: Any, steps: Any) -> int | None:
    """Tokens per forward that ``steps`` amount to; None if they differ between forwards."""
    if not (_positive(length) and _positive(block) and _positive(steps)) or length % block:
        return None
    of_block, rest = divmod(steps, length // block)
    return block // of_block if of_block and not rest and block % of_block == 0 else None


def _positive(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _path(values: dict[str, Any], key: str) -> None:
    """Remove ``.`` and ``//`` from a path without looking at the disk; ``..`` stays, as it may follow a link."""
    path = values.get(key)
    if isinstance(path, str) and path:
        values[key] = str(PurePosixPath(path))


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with dotted keys, without `NOT_COUNTED`."""
    require(isinstance(config, Mapping), "a configuration must hold keys and values")
    flat: dict[str, Any] = {}
    for group, values in config.items():
        if group in NOT_COUNTED:
            continue
        parts = {f"{group}.{key}": value for key, value in values.items()} if isinstance(values, Mapping) else None
        for key, value in ({str(group): values} if parts is None else parts).items():
            flat[key] = _plain(key, value)
    return flat


def _plain(key: str, value: Any, depth: int = 0) -> Any:
    """``value`` in one spelling: 2.0 is 2."""
    require(depth < _DEPTH, f"{key} is nested too deep")
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, float):
        require(math.isfinite(value), f"{key} must be a finite number, not {value}")
        value = int(value) if value.is_integer() and abs(value) < _LARGEST else value
    if isinstance(value, int):
        require(abs(value) < _LARGEST, f"{key} is too large a number")
        return value
    if isinstance(value, float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(key, item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(key, item, depth + 1) for name, item in value.items()}
    raise UsageError(f"{key} holds {type(value).__name__}, which is no value of a configuration")
