"""Caches of installed packages as choices of the command line, though they have no file in ``configs/cache``."""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_store import ConfigStore

from cache_zoo import caches

_GROUP = "cache"
_WRITABLE = (str, bool, int, float, list, dict, type(None))


def offer(config_dir: Path) -> None:
    """Let hydra know each of them as ``cache=NAME``, with its parameters and their defaults.

    A file of that name in ``configs/cache`` goes first. A parameter that has no default, or one that YAML can't hold,
    is no key; it can be added (``+cache.PARAMETER=VALUE``).

    Warns:
        RuntimeWarning: a package has a cache that can't be used; it is no choice.
    """
    for entry in caches.usable():
        if entry.package is None or (config_dir / _GROUP / f"{entry.name}.yaml").is_file():
            continue
        defaults = {key: value for key, value in caches.parameters(entry.name).items() if isinstance(value, _WRITABLE)}
        node = {"name": entry.name, **defaults}
        ConfigStore.instance().store(entry.name, node, group=_GROUP, provider=entry.origin)


def offered(group: str) -> list[str]:
    """Choices of ``group`` that come from installed packages."""
    return [Path(name).stem for name in ConfigStore.instance().repo.get(group, {})]


def package_of(target: str) -> str | None:
    """Package and version that a cache comes with; None for a built-in one, and for ``module:Class``."""
    entry = None if ":" in target else caches.find(target)
    return None if entry is None or entry.package is None else entry.origin
