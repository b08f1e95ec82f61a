"""The resolved configuration of a run, checked, as typed objects."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cache_zoo import UsageError
from cache_zoo.errors import require, require_choice, shown, suggest
from cache_zoo.stores import STORES
from evaluation.config import identity
from evaluation.config.identity import BASELINE
from evaluation.config.registered_choices import GROUPS, writable
from evaluation.config.value_checks import check_type, expand_path, read, require_folder_name, require_plain
from evaluation.sandbox import LAYERS
from generation import GenerationOptions, LikelihoodOptions
from generation.compatibility import require_compatible
from generation.frequencies import digest_of
from generation.options import MAX_SEED, between, incompatibility, require_reachable
from generation.strategies.registry import make_strategy, strategies
from models.loading import ROOT, as_device, as_dtype, find_family, is_choice, of_choice

_ACTIONS = {"force": False, "retry": [], "jobs": 1, "trace": []}
"""Keys that say what to do with runs, with their defaults; they are no part of a run's configuration."""
RETRIED = ("failed", "oom")
_ATTENTION = ("eager", "sdpa", "flash_attention_2")
_MAX_BATCH, _MAX_JOBS, _MAX_SHOTS, _MAX_QUESTIONS, _MAX_MASKS = 4_096, 1_024, 1_000, 10**9, 100_000


@dataclass(frozen=True)
class ModelSettings:
    """Group ``model``: the weights and the form of the prompts."""

    name: str
    family: str | None
    path: str
    dtype: str
    device: str
    apply_chat_template: bool
    system_prompt: str | None
    add_bos: bool
    end_tokens: list[str]
    stop_words: list[str]


@dataclass(frozen=True)
class DatasetSettings:
    """Group ``dataset``: the task and its data."""

    name: str
    path: str | None
    size: int | None
    n_shot: int | None
    system_prompt: str | None


@dataclass(frozen=True)
class ChosenClass:
    """Group ``cache`` or ``suffix``: a class of its registry.

    Attributes:
        group: the group.
        label: how the run is named.
        target: what `cache_zoo.registry.Registry.make` takes, a name or ``module:Class``.
        parameters: of the constructor, default values included.
    """

    group: str
    label: str
    target: str
    parameters: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """The group in the resolved configuration."""
        name = {"_target_": self.target.replace(":", ".")} if ":" in self.target else {"name": self.target}
        return {**name, **_plain(self.parameters)}

    def make(self) -> Any:
        """A new object."""
        return GROUPS[self.group].make(self.target, **self.parameters)


NO_CACHE, WHOLE_SUFFIX = (ChosenClass(group, BASELINE[group], BASELINE[group], {}) for group in ("cache", "suffix"))
"""Those of a baseline."""


@dataclass(frozen=True)
class _Root:
    model: Any
    cache: Any
    suffix: Any
    store: str
    generation: Any
    dataset: Any
    likelihood: Any
    include_path: str | None
    batch_size: int
    seed: int
    allow_code_execution: bool
    sandbox_disable: list[str]
    output_dir: str
    attn_implementation: str | None
    recipe: Any
    force: bool
    retry: list[str]
    jobs: int
    trace: Any


@dataclass(frozen=True)
class Settings:
    """A checked configuration.

    Attributes:
        model, cache, generation, dataset: the four axes.
        suffix, store: which columns behind a block are seen, and how a cache stores its keys and values.
        likelihood: how given answers are scored.
        include_path: folder of further task files.
        batch_size: prompts decoded together.
        seed: of everything random.
        allow_code_execution: scoring may run generated code.
        sandbox_disable: layers of the sandbox that are switched off.
        output_dir: parent of the run folder.
        force: run again what is done.
        retry: statuses of a sweep's cells that are run again, ``failed`` and ``oom``.
        jobs: cells of a sweep that run side by side.
        trace: rows of the dataset to draw when the run is done.
        config: what defines the run, as plain data, with ``auto`` resolved.
    """

    model: ModelSettings
    cache: ChosenClass
    suffix: ChosenClass
    store: str
    generation: GenerationOptions
    dataset: DatasetSettings
    likelihood: LikelihoodOptions
    include_path: str | None
    batch_size: int
    seed: int
    allow_code_execution: bool
    sandbox_disable: list[str]
    output_dir: str
    force: bool
    retry: list[str]
    jobs: int
    trace: list[int]
    config: dict[str, Any]

    @classmethod
    def from_config(cls, config: Mapping[str, Any], trusted: bool = True) -> Settings:
        """Settings from the resolved configuration as plain data.

        Args:
            config: the resolved configuration.
            trusted: False for a run folder of unknown origin: only registered classes are imported, and no path is
                looked at.

        Raises:
            UsageError: an unknown key, or an unusable value.
        """
        require_plain(config)
        earlier = {"suffix": WHOLE_SUFFIX.config, "store": BASELINE["store"]}  # runs older than these keys
        root = read(_Root, {"recipe": None, **earlier, **_ACTIONS, **config})
        for group in ("model", "cache", "suffix", "generation", "dataset"):
            value = getattr(root, group)
            require(isinstance(value, Mapping), f"{group} must be a choice of configs/{group}, not {shown(value)}")
        values = _resolved(root.model)
        model = read(ModelSettings, values, "model.")
        model = replace(model, path=expand_path("model.path", model.path))
        _check_model(model)
        dataset = read(DatasetSettings, root.dataset, "dataset.")
        dataset = replace(dataset, path=_optional_path("dataset.path", dataset.path))
        require_folder_name("dataset.name", dataset.name)
        between("dataset.size", dataset.size, 1, _MAX_QUESTIONS)
        between("dataset.n_shot", dataset.n_shot, 0, _MAX_SHOTS)
        for layer in root.sandbox_disable:
            require(layer in LAYERS, f"unknown layer {shown(layer)} in sandbox_disable: {suggest(layer, LAYERS)}")
        between("batch_size", root.batch_size, 1, _MAX_BATCH)
        between("seed", root.seed, 0, MAX_SEED)
        between("jobs", root.jobs, 1, _MAX_JOBS)
        if root.attn_implementation is not None:
            require_choice("attn_implementation", root.attn_implementation, _ATTENTION)
        require(isinstance(root.likelihood, Mapping), f"likelihood is a group of keys, not {shown(root.likelihood)}")
        likelihood = read(LikelihoodOptions, root.likelihood, "likelihood.")
        between("likelihood.mc_num", likelihood.mc_num, 1, _MAX_MASKS)
        include_path = _optional_path("include_path", root.include_path)
        require(
            include_path is None or not trusted or Path(include_path).is_dir(),
            f"include_path {include_path} is not a folder",
        )
        for status in root.retry:
            require(status in RETRIED, f"unknown status '{status}' in retry: {suggest(status, RETRIED)}")
        generation = _generation_options(root.generation)
        debias = _optional_path("generation.debias", generation.debias)
        if debias is not None and trusted:
            generation = replace(generation, debias=debias, debias_sha256=digest_of(debias, generation.debias_sha256))
        file = {key: getattr(generation, key) for key in ("debias", "debias_sha256")} if debias else {}
        require_choice("store", root.store, STORES)
        cache, suffix = (_chosen_class(group, getattr(root, group), trusted) for group in GROUPS)
        return cls(
            model=model,
            cache=cache,
            suffix=suffix,
            store=root.store,
            generation=generation,
            dataset=dataset,
            likelihood=likelihood,
            include_path=include_path,
            batch_size=root.batch_size,
            seed=root.seed,
            allow_code_execution=root.allow_code_execution,
            sandbox_disable=root.sandbox_disable,
            output_dir=expand_path("output_dir", root.output_dir),
            force=root.force,
            retry=root.retry,
            jobs=root.jobs,
            trace=_rows(root.trace, dataset.size),
            config={
                **{key: value for key, value in _plain(config).items() if key not in _ACTIONS},
                "model": _plain({**values, "path": model.path}),
                "cache": cache.config,
                "suffix": suffix.config,
                "store": root.store,
                "generation": {**_strategy_defaults(generation.strategy), **_plain(root.generation), **file},
            },
        )

    @property
    def axes(self) -> dict[str, str]:
        """Names of model, cache, suffix, store, strategy and dataset, by key."""
        return {
            "model": self.model.name,
            "cache": self.cache.label,
            "suffix": self.suffix.label,
            "store": self.store,
            "generation": self.generation.strategy,
            "dataset": self.dataset.name,
        }

    @property
    def baseline(self) -> Settings:
        """The settings of the run that this one is compared with: no cache, nothing dropped, everything else equal."""
        method = {"cache": NO_CACHE.config, "suffix": WHOLE_SUFFIX.config, "store": BASELINE["store"]}
        return replace(
            self, cache=NO_CACHE, suffix=WHOLE_SUFFIX, store=BASELINE["store"], config={**self.config, **method}
        )

    @property
    def is_baseline(self) -> bool:
        """Whether it is a run that others are compared with."""
        return identity.is_baseline(self.config)

    @property
    def method(self) -> dict[str, Any]:
        """New cache and suffix, and the store, as arguments of `generation.generate`."""
        return {"cache": self.cache.make(), "suffix": self.suffix.make(), "store": self.store}

    @property
    def random(self) -> bool:
        """Whether answers depend on the seed: tokens or visible columns are drawn."""
        return self.generation.random or self.suffix.make().draws

    @property
    def obstacle(self) -> str | None:
        """Why this combination cannot run, or saves nothing; None if it can be run."""
        cache = self.cache.make()
        try:
            require_compatible(cache, make_strategy(self.generation), self.store)
        except UsageError as error:
            return str(error)
        return incompatibility(cache, self.generation)

    @property
    def system_instruction(self) -> str | None:
        """The system prompts of the dataset and of the model, in this order."""
        given = (self.dataset.system_prompt, self.model.system_prompt)
        return "\n\n".join(text for text in given if text) or None

    @property
    def config_hash(self) -> str:
        """Eight hex digits of what makes the run (see `evaluation.config.identity`)."""
        return identity.config_hash(self.config)

    @property
    def run_name(self) -> str:
        """Name of the run folder: the four axes and `config_hash`."""
        return identity.run_name(self.config)


def _generation_options(values: Mapping[str, Any]) -> GenerationOptions:
    """The options of a registered strategy, its own parameters included."""
    strategy = check_type("generation.strategy", values.get("strategy"), str)
    strategies.load(strategies.find(strategy))  # before its parameters are checked: an untrusted class is not imported
    options = GenerationOptions.make(**values)
    require_reachable(options)
    return options


def _strategy_defaults(strategy: str) -> dict[str, Any]:
    """A strategy's own parameters with their defaults."""
    parameters = strategies.parameters(strategy)
    return writable({key: value for key, value in parameters.items() if key != "options"})


def _chosen_class(group: str, values: Mapping[str, Any], trusted: bool) -> ChosenClass:
    registry = GROUPS[group]
    given = {str(key): value for key, value in values.items() if key not in ("name", "_target_")}
    if "_target_" in values:
        target = check_type(f"{group}._target_", values["_target_"], str)
        module, _, name = target.rpartition(".")
        if not module:
            raise UsageError(f"{group}._target_ must be package.module.Class, not {shown(target)}")
        target = f"{module}:{name}"
        registered = [entry.name for entry in registry.entries() if entry.target == target and not entry.taken_by]
        if not registered and not trusted:
            return ChosenClass(group, name, target, given)
        if not registered:  # its class may be registered under another module
            cls = registry.get(target)
            registered = [entry.name for entry in registry.usable() if registry.load(entry) is cls]
        target = registered[0] if registered else target
    else:
        target = check_type(f"{group}.name", values.get("name"), str)
        registry.find(target)  # imports nothing
    defaults = registry.parameters(target)
    for key, default in defaults.items():
        if key in given and isinstance(default, bool | int | float | str):
            given[key] = check_type(f"{group}.{key}", given[key], type(default))
    registry.make(target, **given)  # the class checks names and values itself
    parameters = writable(defaults) | given
    for name, same in vars(registry.get(target)).get("also_called", {}).items():  # not inherited
        if parameters == same:
            target, parameters = name, {}
    return ChosenClass(group, target.rpartition(":")[2], target, parameters)


def _optional_path(key: str, given: str | None) -> str | None:
    return None if given is None else expand_path(key, given)


def _check_model(model: ModelSettings) -> None:
    require_folder_name("model.name", model.name)
    as_dtype(model.dtype)
    as_device(model.device, present=False)
    if model.family is not None:
        find_family(model.family)
    for key, texts in (("end_tokens", model.end_tokens), ("stop_words", model.stop_words)):
        require("" not in texts, f"model.{key} holds an empty text, which would end every answer; leave it out")


def _rows(trace: Any, size: int | None) -> list[int]:
    """Rows to draw, among the first ``size``: ``true`` is row 0, ``false`` none."""
    if isinstance(trace, bool):
        return [0] if trace else []
    rows = trace if isinstance(trace, list) else [trace]
    good = all(isinstance(row, int) and not isinstance(row, bool) and 0 <= row < _MAX_QUESTIONS for row in rows)
    require(good, f"trace must be true, false, a row of the dataset or a list of rows, not {shown(trace)}")
    rows = list(dict.fromkeys(rows))
    unused = [row for row in rows if size is not None and row >= size]
    require(not unused, f"trace names row {unused[:1]} and dataset.size={size}: rows are 0 to {(size or 0) - 1}")
    return rows


def _resolved(model: Mapping[str, Any]) -> dict[str, Any]:
    """``model`` with ``auto`` resolved: runs on different kinds of device are different runs."""
    values = {"family": None, **model}
    if values.get("device") == "auto":
        values["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    if values.get("dtype") == "auto":
        values["dtype"] = "bfloat16" if str(values.get("device")).startswith("cuda") else "float32"
    if isinstance(values.get("dtype"), str):
        values["dtype"] = values["dtype"].removeprefix("torch.")
    if isinstance(values.get("path"), str):
        values["path"] = _spelled(values["path"])
    return values


def _spelled(path: str) -> str:
    """The one spelling of a checkpoint: the path of a name in ``configs/model``; in the package, relative to it.

    See `models.resolve_checkpoint`.
    """
    for folder in (os.path.expanduser(path), ROOT / path):
        if path and os.path.isdir(folder):  # pathlib raises for impossible names
            resolved = Path(folder).resolve()
            return resolved.relative_to(ROOT).as_posix() if resolved.is_relative_to(ROOT) else path
    return str(of_choice(path, "path") or path) if is_choice(path) else path


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): _plain(value) if isinstance(value, Mapping) else value for key, value in values.items()}
