"""Checking a command line against ``configs/`` before anything runs, and expanding a sweep into its cells.

Hydra checks the same, with messages of its own and one cell at a time. Here a mistake anywhere in a sweep is found
before its first cell starts, and the message names the nearest valid choice.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from cache_zoo import UsageError, caches
from cache_zoo.errors import require, shown, suggest
from evaluation.config import cache_choices, recipes
from evaluation.config.settings import Settings
from evaluation.config.task_names import check_name

_LISTS = ("retry", "trace")
_PATHS = ("output_dir", "include_path", "dataset.path", "model.path")
_HOME = re.compile(r"(?:(?<=^)|(?<=,))~[^,]*")
_MOST_CELLS = 10_000


def cells(config_dir: Path, config_name: str, overrides: list[str], sweep: bool) -> list[Settings]:
    """Settings of every cell of a command line, in the order of hydra's basic sweeper.

    Args:
        config_dir: absolute path of ``configs``.
        config_name: root config in it.
        overrides: arguments of the form ``key=value``.
        sweep: values may be lists, ``a,b,c``; one cell per combination.

    Raises:
        UsageError: an override that is none, an unknown key or choice, an unusable value, a task that no file has, a
            recipe that has nothing for a cell.
    """
    cache_choices.register()
    overrides = whole_lists(overrides)
    parsed = _parse(overrides)
    if launcher(overrides):
        of_hydra = [override for override in parsed if override.key_or_group.startswith("hydra")]
        _check_hydra(config_dir, config_name, of_hydra)
        parsed = [override for override in parsed if override not in of_hydra]
    lists = [override.input_line for override in parsed if override.is_sweep_override()]
    if lists and not sweep:
        raise UsageError(f"'{lists[0]}' lists several values; a sweep over them needs -m")
    combined = _combinations(parsed) if sweep else [overrides]
    found = [_cell(config_dir, config_name, one) for one in combined]
    for settings in found:
        check_name(settings.dataset.name, settings.include_path)
    return found


def whole_lists(overrides: list[str]) -> list[str]:
    """The overrides as hydra's grammar takes them.

    The values of a key that takes a list of its own are one, ``retry=failed,oom``, and paths that begin with ``~`` are
    in quotes.
    """
    found = []
    for override in overrides:
        key, equals, value = override.partition("=")
        listed = key in _LISTS and equals and not value.startswith("[") and ("," in value or key == "retry")
        if key.lstrip("+") in _PATHS and equals:
            override = f"{key}={_HOME.sub(_quoted, value)}"
        found.append(f"{key}=[{value}]" if listed else override)
    return found


def _quoted(match: re.Match[str]) -> str:
    return recipes.as_override("", match[0]).removeprefix("=")


def launcher(overrides: list[str]) -> str | None:
    """The launcher of hydra's that a command line asks for; None: the cells are run on this machine."""
    named = [str(one.value()) for one in _parse(whole_lists(overrides)) if one.key_or_group == "hydra/launcher"]
    return named[-1] if named and named[-1] != "basic" else None


def with_recipe(config_dir: Path, config_name: str, overrides: list[str]) -> list[str]:
    """The overrides of one cell with its recipe written out, below everything else that they say.

    Raises:
        UsageError: as in `cells`.
    """
    parsed = _parse(overrides)
    named = [override for override in parsed if override.key_or_group == recipes.GROUP]
    if not named:
        return overrides
    if len(named) > 1 or not (named[0].is_add() or named[0].is_force_add()):
        raise UsageError(f"'{named[-1].input_line}' is not one recipe added to the rest; give +recipe=NAME, once")
    others = [override for override in parsed if override not in named]
    given = {override.key_or_group for override in others}
    lines = [override.input_line for override in others]
    config = _checked(config_dir, config_name, lines)
    name = str(named[0].value())
    require(len(name) <= 100, f"there is no recipe {shown(name)}")
    values = recipes.resolve(config_dir, name, config)
    below = [recipes.as_override(key, value) for key, value in values.items() if key not in given]
    return [*below, *lines]


def _parse(overrides: list[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for override in overrides:
        try:
            parsed.append(parser.parse_override(override))
        except (HydraException, ValueError, RecursionError) as error:
            raise UsageError(f"{shown(override)} is not of the form key=value: {_line(error)}") from error
    return parsed


def _check_hydra(config_dir: Path, config_name: str, of_hydra: list[Override]) -> None:
    """An error if hydra does not know a key or a choice of its own, which are in no cell."""
    with initialize_config_dir(str(config_dir), version_base="1.3"):
        try:
            compose(config_name, [override.input_line for override in of_hydra], return_hydra_config=True)
        except Exception as error:  # as in `_composed`
            raise UsageError(f"hydra can't be set up: {_line(error)}") from error


def _combinations(parsed: list[Override]) -> list[list[str]]:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    number = 1
    for override in parsed:
        if override.is_sweep_override():
            number *= _count(override)
            require(number <= _MOST_CELLS, f"{shown(override.input_line)} makes more than {_MOST_CELLS:,} cells")
    try:
        (batch,) = BasicSweeper.split_arguments(parsed, None)
    except HydraException as error:
        raise UsageError(_line(error)) from error
    return [list(combination) for combination in batch]


def _count(override: Override) -> int:
    """How many values a key is to have, as far as that can be used."""
    try:
        number = sum(1 for _ in islice(override.sweep_iterator(), _MOST_CELLS + 1))
    except Exception as error:  # a range without steps, an interval, which has no values of its own, and the like
        raise UsageError(f"{shown(override.input_line)} is no list of values: {_line(error)}") from error
    require(number > 0, f"{shown(override.input_line)} lists no values")
    return number


def _cell(config_dir: Path, config_name: str, overrides: list[str]) -> Settings:
    return Settings.from_config(_checked(config_dir, config_name, with_recipe(config_dir, config_name, overrides)))


def _checked(config_dir: Path, config_name: str, overrides: list[str]) -> dict[str, Any]:
    """The configuration, once every choice and key is known to exist."""
    groups = {path.name for path in config_dir.iterdir() if path.is_dir() and path.name != "hydra"}
    groups.add(cache_choices.GROUP)
    parsed = _parse(overrides)
    choices = [override for override in parsed if override.key_or_group in groups]
    for override in choices:
        _check_choice(config_dir, override)
    with initialize_config_dir(str(config_dir), version_base="1.3"):
        base = _composed(config_name, [override.input_line for override in choices], "the choices")
        for override in parsed:
            if override not in choices and not override.key_or_group.startswith("hydra"):
                _check_key(config_dir, base, override)
        return _composed(config_name, overrides, "the command line")


def _composed(config_name: str, overrides: list[str], what: str) -> dict[str, Any]:
    try:
        composed = compose(config_name, overrides)
        return dict(OmegaConf.to_container(composed, resolve=True))  # type: ignore[arg-type]
    except Exception as error:  # hydra has errors of its own, and lets through whatever else its parts raise
        raise UsageError(f"{what} can't be composed: {_line(error)}") from error


def _check_choice(config_dir: Path, override: Override) -> None:
    group, given = override.key_or_group, override.value()
    known = list(_keys_by_choice(config_dir, group))
    if given in known:
        return
    if group == cache_choices.GROUP and given in caches.names():
        caches.get(given)  # says why it can't be used
    others = "; any other task of lm-eval is dataset.name=NAME" if group == "dataset" else ""
    raise UsageError(f"unknown choice {shown(f'{group}={given}')}: {suggest(str(given), known)}{others}")


def _check_key(config_dir: Path, base: Mapping[str, Any], override: Override) -> None:
    """An error unless the key exists; ``+key`` adds one, which `Settings` checks."""
    if override.is_add() or override.is_force_add():
        return
    key, node = override.key_or_group, base
    seen: list[str] = []
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            known = [".".join([*seen, name]) for name in node] if isinstance(node, Mapping) else []
            elsewhere = _elsewhere(config_dir, base, key, known)
            choices = f"{elsewhere}Valid choices: {', '.join(sorted(known))}" if elsewhere else suggest(key, known)
            raise UsageError(f"unknown key {shown(key)}: {choices}")
        node = node[part]
        seen.append(part)


def _elsewhere(config_dir: Path, base: Mapping[str, Any], key: str, known: list[str]) -> str:
    """Where a key is known that is not known here: in a group, or in another choice of its group."""
    group, _, name = key.partition(".")
    if not name:
        homes = [f"{part}.{key}" for part, keys in base.items() if isinstance(keys, Mapping) and key in keys]
        return f"did you mean '{homes[0]}'? " if homes else ""
    choices = {f"{group}.{other}": name for name, keys in _keys_by_choice(config_dir, group).items() for other in keys}
    if key in choices:
        return f"it belongs to {group}={choices[key]}. "
    near = difflib.get_close_matches(key, choices, n=1, cutoff=0.8)
    return f"did you mean '{near[0]}' of {group}={choices[near[0]]}? " if near and near[0] not in known else ""


def _keys_by_choice(config_dir: Path, group: str) -> dict[str, list[str]]:
    """Choices of ``group`` and the keys of each."""
    if group == cache_choices.GROUP:
        return cache_choices.keys()
    return {path.stem: _keys_of(path) for path in sorted((config_dir / group).glob("*.yaml"))}


def _keys_of(file: Path) -> list[str]:
    """Of a choice; none of one that can't be read, which is said when it is chosen."""
    try:
        return [str(key) for key in OmegaConf.load(file) if key != "defaults"]
    except Exception:  # of YAML, of OmegaConf, of the disk
        return []


def _line(error: Exception) -> str:
    """The first line of a message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
