"""Choices without a file: each registered cache and suffix rule, and strategies of installed packages.

A choice has the parameters of its constructor. That of a strategy has the options of ``generation=vanilla``, too.
"""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_store import ConfigStore

from cache_zoo.registry import Registry, caches, suffixes
from generation.strategies.registry import strategies

GROUPS: dict[str, Registry] = {"cache": caches, "suffix": suffixes}
"""Groups whose choices are the entries of a registry."""
REGISTRIES: dict[str, Registry] = {**GROUPS, "generation": strategies}
"""The same, and the group whose choices are files for what comes with the package."""
WRITABLE = (str, bool, int, float, list, dict, type(None))
"""Types of values that YAML can hold."""


def register() -> None:
    """Make each class known to hydra as ``GROUP=NAME``, with its parameters and their defaults.

    A parameter without a default, or with one that YAML cannot hold, is no key; ``+GROUP.PARAMETER=VALUE`` adds it.

    Warns:
        RuntimeWarning: a class of an installed package does not load; it is left out.
    """
    for group, registry in REGISTRIES.items():
        for entry in registry.usable():
            node: dict[str, object] = {"name": entry.name}
            if group == "generation":
                if entry.package is None:
                    continue
                node = {"defaults": ["vanilla", "_self_"], "strategy": entry.name}
            node |= writable(registry.parameters(entry.name))
            ConfigStore.instance().store(entry.name, node, group=group, provider=entry.origin)


def keys(group: str) -> dict[str, list[str]]:
    """Keys of each choice of a group that has no file, by its name."""
    nodes = ConfigStore.instance().repo.get(group, {}).values()
    return {Path(node.name).stem: [key for key in node.node if key != "defaults"] for node in nodes}


def writable(parameters: dict[str, object]) -> dict[str, object]:
    """The parameters whose defaults YAML can hold."""
    return {key: value for key, value in parameters.items() if isinstance(value, WRITABLE)}


def package_of(group: str, target: str) -> str | None:
    """Package and version that a class comes with; None for a built-in one, and for ``module:Class``."""
    entry = None if ":" in target else GROUPS[group].find(target)
    return None if entry is None or entry.package is None else entry.origin
