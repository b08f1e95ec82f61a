"""Recipes: the settings of the papers' own scripts, one file of ``configs/recipe`` each.

A recipe is a list of entries: ``when`` (names or patterns of model, dataset, cache, suffix and generation; a missing
axis matches anything), the keys to ``set``, and the ``source``. All matching entries apply in order. ``method`` names
the choices that make up the method, such as ``cache`` and ``generation``. The command line wins over both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cache_zoo import UsageError
from cache_zoo.errors import require, shown, suggest

GROUP = "recipe"
_METHOD = ("cache", "suffix", "generation")
_AXES = ("model", "dataset", *_METHOD)


@dataclass(frozen=True)
class RecipeEntry:
    """One entry of a recipe: names or patterns per axis, the values that it sets per key, and their source."""

    when: dict[str, tuple[str, ...]]
    values: dict[str, Any]
    source: str

    def holds(self, names: Mapping[str, str]) -> bool:
        """Whether it matches the cell with these names per axis."""
        return all(any(fnmatchcase(names[axis], pattern) for pattern in given) for axis, given in self.when.items())


@dataclass(frozen=True)
class Recipe:
    """What a paper's scripts set: the choices of its method, and entries of values."""

    method: dict[str, str]
    entries: list[RecipeEntry]


def read_recipe(config_dir: Path, name: str) -> Recipe:
    """The recipe in ``configs/recipe/<name>.yaml``.

    Raises:
        UsageError: there is no such recipe, or its file is malformed.
    """
    file = config_dir / GROUP / f"{name}.yaml"
    if not file.is_file():
        known = [path.stem for path in (config_dir / GROUP).glob("*.yaml")]
        raise UsageError(f"unknown recipe '{name}': {suggest(name, known)}")
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(file))
    except Exception as error:  # of YAML, of OmegaConf, of the disk
        raise UsageError(f"{file} can't be read: {' '.join(str(error).split())}") from error
    listed = isinstance(content, dict) and isinstance(content.get("entries"), list)
    require(listed and set(content) <= {"method", "entries"}, f"{file} must hold a list named 'entries'")
    method = content.get("method") or {}
    require(isinstance(method, dict), f"{file}: 'method' must hold choices, not {shown(method)}")
    for axis in method:
        require(axis in _METHOD, f"{file}: unknown part of a method '{axis}': {suggest(str(axis), _METHOD)}")
    entries = [_entry(file, number, entry) for number, entry in enumerate(content["entries"], start=1)]
    return Recipe({axis: str(choice) for axis, choice in method.items()}, entries)


def resolve(name: str, recipe: Recipe, config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the recipe ``name`` for a cell, per key, with ``recipe.name`` and ``recipe.source`` for the record.

    ``config`` is the configuration without it, but with the choices of its method; the names of the axes are read.

    Raises:
        UsageError: no entry matches.
    """
    names = {axis: str(config[axis].get("strategy" if axis == "generation" else "name")) for axis in _AXES}
    held = [entry for entry in recipe.entries if entry.holds(names)]
    if not held:
        asked = ", ".join(f"{axis}={names[axis]}" for axis in _AXES)
        raise UsageError(f"recipe '{name}' has nothing for {asked}; it has {_contents(recipe.entries)}")
    values: dict[str, Any] = {}
    for entry in held:
        values |= entry.values
    sources = list(dict.fromkeys(entry.source for entry in held))
    return {**values, "recipe.name": name, "recipe.source": sources}


def as_override(key: str, value: Any) -> str:
    """``key=value`` in hydra's grammar; keys of the recipe's record are added to the configuration."""
    return f"{'+' if key.startswith(f'{GROUP}.') else ''}{key}={literal(value)}"


def literal(value: Any) -> str:
    """A value in hydra's grammar."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, list):
        return "[" + ",".join(literal(item) for item in value) + "]"
    return json.dumps(value)


def _entry(file: Path, number: int, given: Any) -> RecipeEntry:
    where = f"{file}, entry {number}"
    require(
        isinstance(given, dict) and set(given) == {"when", "set", "source"}, f"{where} must have when, set and source"
    )
    for part in ("when", "set"):
        require(isinstance(given[part], dict), f"{where}: '{part}' must hold keys and values, not {shown(given[part])}")
    for axis in given["when"]:
        require(axis in _AXES, f"{where}: unknown axis '{axis}': {suggest(str(axis), _AXES)}")
    when = {
        axis: tuple(map(str, names if isinstance(names, list) else [names])) for axis, names in given["when"].items()
    }
    return RecipeEntry(when, dict(given["set"]), str(given["source"]))


def _contents(entries: list[RecipeEntry]) -> str:
    """The datasets of a recipe per model."""
    by_model: dict[str, list[str]] = {}
    for entry in entries:
        for model in entry.when.get("model", ("any model",)):
            by_model.setdefault(model, []).extend(entry.when.get("dataset", ("any dataset",)))
    return "; ".join(f"{model}: {', '.join(dict.fromkeys(datasets))}" for model, datasets in by_model.items())
