"""The choices of the group ``cache``: every registered cache, with the parameters of its constructor as keys."""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_store import ConfigStore

from cache_zoo import caches

GROUP = "cache"
WRITABLE = (str, bool, int, float, list, dict, type(None))
"""Types of values that YAML can hold."""


def register() -> None:
    """Make each cache known to hydra as ``cache=NAME``, with its parameters and their defaults.

    A parameter without a default, or with one that YAML cannot hold, is no key; ``+cache.PARAMETER=VALUE`` adds it.

    Warns:
        RuntimeWarning: a cache of an installed package does not load; it is left out.
    """
    for entry in caches.usable():
        defaults = {key: value for key, value in caches.parameters(entry.name).items() if isinstance(value, WRITABLE)}
        ConfigStore.instance().store(entry.name, {"name": entry.name, **defaults}, group=GROUP, provider=entry.origin)


def keys() -> dict[str, list[str]]:
    """Keys of each registered choice, by its name."""
    nodes = ConfigStore.instance().repo.get(GROUP, {}).values()
    return {Path(node.name).stem: list(node.node) for node in nodes}


def package_of(target: str) -> str | None:
    """Package and version that a cache comes with; None for a built-in one, and for ``module:Class``."""
    entry = None if ":" in target else caches.find(target)
    return None if entry is None or entry.package is None else entry.origin
