"""The command line of eval: checked against ``configs/`` and expanded into cells before anything runs.

Hydra composes the configuration. It would check one cell at a time and name no nearest choice.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from itertools import islice, product
from math import prod
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from cache_zoo import UsageError
from cache_zoo.errors import first_line, require, shown, suggest
from evaluation.config import recipes, registered_choices
from evaluation.config.settings import Settings
from evaluation.config.task_names import check_name

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ROOT_CONFIG = "eval"
_LIST_KEYS = ("retry", "trace")
_PATH_KEYS = ("output_dir", "include_path", "dataset.path", "model.path")
_HOME = re.compile(r"(?:(?<=^)|(?<=,))~[^,]*")
_MAX_CELLS = 10_000


def cells(overrides: list[str], sweep: bool = False) -> list[Settings]:
    """Settings of every cell of a command line, in the order of hydra's basic sweeper.

    Args:
        overrides: arguments of the form ``key=value``.
        sweep: values may be lists, ``a,b,c``; one cell per combination.

    Raises:
        UsageError: an argument of another form, an unknown key, choice or task, an unusable value, or a recipe without
            an entry for a cell.
    """
    registered_choices.register()
    overrides = whole_lists(overrides)
    parsed = _parse(overrides)
    if launcher(overrides):
        of_hydra = [override for override in parsed if override.key_or_group.startswith("hydra")]
        _compose([override.input_line for override in of_hydra], "hydra's settings", with_hydra=True)
        parsed = [override for override in parsed if override not in of_hydra]
    lists = [override.input_line for override in parsed if override.is_sweep_override()]
    if lists and not sweep:
        raise UsageError(f"'{lists[0]}' lists several values; a sweep over them needs -m")
    checked = [Settings.from_config(_config(with_recipe(line))) for line in _combinations(parsed)]
    for settings in checked:
        check_name(settings.dataset.name, settings.include_path)
    return checked


def whole_lists(overrides: list[str]) -> list[str]:
    """The overrides in hydra's grammar: ``retry=failed,oom`` is one list, and paths with ``~`` are quoted."""
    normalized = []
    for override in overrides:
        key, equals, value = override.partition("=")
        listed = key in _LIST_KEYS and equals and not value.startswith("[") and ("," in value or key == "retry")
        if key.lstrip("+") in _PATH_KEYS and equals:
            override = f"{key}={_HOME.sub(lambda match: recipes.literal(match[0]), value)}"
        normalized.append(f"{key}=[{value}]" if listed else override)
    return normalized


def launcher(overrides: list[str]) -> str | None:
    """The hydra launcher of a command line; None: the cells run on this machine."""
    parsed = _parse(whole_lists(overrides))
    named = [str(override.value()) for override in parsed if override.key_or_group == "hydra/launcher"]
    return named[-1] if named and named[-1] != "basic" else None


def with_recipe(overrides: list[str]) -> list[str]:
    """The overrides of one cell with its recipe written out; all other overrides win over it.

    Raises:
        UsageError: as in `cells`.
    """
    parsed = _parse(overrides)
    named = [override for override in parsed if override.key_or_group == recipes.GROUP]
    if not named:
        return overrides
    if len(named) > 1 or not (named[0].is_add() or named[0].is_force_add()):
        raise UsageError(f"'{named[-1].input_line}' does not add one recipe; give +recipe=NAME once")
    others = [override for override in parsed if override not in named]
    given = {override.key_or_group for override in others}
    lines = [override.input_line for override in others]
    name = str(named[0].value())
    require(len(name) <= 100, f"there is no recipe {shown(name)}")
    recipe = recipes.read_recipe(CONFIGS, name)
    lines = [*(f"{group}={choice}" for group, choice in recipe.method.items() if group not in given), *lines]
    values = recipes.resolve(name, recipe, _config(lines))
    return [*(recipes.as_override(key, value) for key, value in values.items() if key not in given), *lines]


def composed(overrides: list[str], with_hydra: bool = False) -> DictConfig:
    """The configuration of one cell, with its recipe; ``with_hydra`` adds hydra's own node."""
    registered_choices.register()
    return _compose(with_recipe(whole_lists(overrides)), "the command line", with_hydra)


def choices(group: str) -> list[str]:
    """Names of the choices of a group."""
    return sorted({*registered_choices.keys(group), *(path.stem for path in _files(group))})


def groups() -> list[str]:
    """Names of the groups of choices."""
    folders = {path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name != "hydra"}
    return sorted({*folders, *registered_choices.REGISTRIES})


def _parse(overrides: list[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for override in overrides:
        try:
            parsed.append(parser.parse_override(override))
        except (HydraException, ValueError, RecursionError) as error:
            raise UsageError(f"{shown(override)} is not of the form key=value: {first_line(error)}") from error
    return parsed


def _combinations(parsed: list[Override]) -> list[list[str]]:
    """One list of overrides per cell."""
    values = [_values(override) if override.is_sweep_override() else [override.input_line] for override in parsed]
    for number, override in enumerate(parsed, start=1):
        many = prod(map(len, values[:number])) > _MAX_CELLS
        require(not many, f"{shown(override.input_line)} makes more than {_MAX_CELLS:,} cells")
    return [list(combination) for combination in product(*values)]


def _values(override: Override) -> list[str]:
    """One override per value of a list, at most one more than a sweep may have."""
    try:
        values = list(islice(override.sweep_string_iterator(), _MAX_CELLS + 1))
    except Exception as error:  # a range without steps, an interval (which lists no values), and the like
        raise UsageError(f"{shown(override.input_line)} is no list of values: {first_line(error)}") from error
    require(bool(values), f"{shown(override.input_line)} lists no values")
    return [f"{override.get_key_element()}={value}" for value in values]


def _config(overrides: list[str]) -> dict[str, Any]:
    """The resolved configuration as plain data.

    Raises:
        UsageError: an unknown choice or key, or an unusable value.
    """
    parsed = _parse(overrides)
    chosen = [override for override in parsed if override.key_or_group in groups()]
    for override in chosen:
        _check_choice(override)
    try:
        return dict(OmegaConf.to_container(_compose(overrides, "the command line"), resolve=True))  # type: ignore[arg-type]
    except Exception as error:
        base = _compose([override.input_line for override in chosen], "the choices")
        for override in parsed:
            if override not in chosen and not override.key_or_group.startswith("hydra"):
                _check_key(OmegaConf.to_container(base, resolve=True), override)
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"the command line can't be composed: {first_line(error)}") from error


def _compose(overrides: list[str], what: str, with_hydra: bool = False) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            return compose(ROOT_CONFIG, overrides, return_hydra_config=with_hydra)
        except Exception as error:  # hydra passes on every error of its parts
            raise UsageError(f"{what} can't be composed: {first_line(error)}") from error


def _check_choice(override: Override) -> None:
    group, given = override.key_or_group, override.value()
    known = choices(group)
    if given in known:
        return
    registry = registered_choices.REGISTRIES.get(group)
    if registry is not None and given in registry.names():
        registry.get(given)  # raises, and says why
    others = "; any other task of lm-eval is dataset.name=NAME" if group == "dataset" else ""
    raise UsageError(f"unknown choice {shown(f'{group}={given}')}: {suggest(str(given), known)}{others}")


def _check_key(base: Any, override: Override) -> None:
    """An error unless the key exists; ``+key`` adds one, which `Settings` checks."""
    if override.is_add() or override.is_force_add():
        return
    key, node = override.key_or_group, base
    seen: list[str] = []
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            known = [".".join([*seen, name]) for name in node] if isinstance(node, Mapping) else []
            elsewhere = _elsewhere(base, key, known)
            valid = f"{elsewhere}Valid choices: {', '.join(sorted(known))}" if elsewhere else suggest(key, known)
            raise UsageError(f"unknown key {shown(key)}: {valid}")
        node = node[part]
        seen.append(part)


def _elsewhere(base: Mapping[str, Any], key: str, known: list[str]) -> str:
    """Where an unknown key exists: in a group, or in another choice of its group."""
    group, _, name = key.partition(".")
    if not name:
        homes = [f"{part}.{key}" for part, keys in base.items() if isinstance(keys, Mapping) and key in keys]
        return f"did you mean '{homes[0]}'? " if homes else ""
    owners: dict[str, list[str]] = {}
    for choice, keys in _keys_by_choice(group).items():
        for other in keys:
            owners.setdefault(f"{group}.{other}", []).append(f"{group}={choice}")
    if key in owners:
        return f"it belongs to {' and '.join(owners[key])}. "
    near = difflib.get_close_matches(key, owners, n=1, cutoff=0.8)
    return f"did you mean '{near[0]}' of {' and '.join(owners[near[0]])}? " if near and near[0] not in known else ""


def _keys_by_choice(group: str) -> dict[str, list[str]]:
    """Choices of ``group`` and the keys of each."""
    return {**registered_choices.keys(group), **{path.stem: _keys_of(path) for path in _files(group)}}


def _files(group: str) -> list[Path]:
    return sorted((CONFIGS / group).glob("*.yaml"))


def _keys_of(file: Path) -> list[str]:
    """Keys of a choice; none if its file can't be read, which is an error once it is chosen."""
    try:
        return [str(key) for key in OmegaConf.load(file) if key != "defaults"]
    except Exception:  # of YAML, of OmegaConf, of the disk
        return []
