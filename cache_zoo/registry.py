"""Registries: names to classes, imported when first used, open to installed packages through entry points."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from cache_zoo.base import Cache
from cache_zoo.errors import UsageError, suggest


class Registry:
    """Classes by name.

    Args:
        kind: what is registered, for messages ("cache").
        base: class that every entry derives from.
        builtin: name to ``"module:Class"``.
        group: entry-point group through which installed packages add entries. One that cannot be imported warns and
            is left out; it never breaks the others.
    """

    def __init__(self, kind: str, base: type, builtin: Mapping[str, str], group: str) -> None:
        self.kind, self.base, self.group = kind, base, group
        self._builtin = dict(builtin)

    def names(self) -> list[str]:
        """All names, built-in ones first."""
        return [*self._builtin, *(name for name in self._plugins() if name not in self._builtin)]

    def get(self, name: str) -> type:
        """The class called ``name``, or the one at ``"module:Class"``.

        Raises:
            UsageError: no such name, or what it names is not a class of this kind.
        """
        if ":" in name:
            return self._checked(name, self._load(name))
        if name in self._builtin:
            return self._checked(name, self._load(self._builtin[name]))
        plugins = self._plugins()
        if name not in plugins:
            raise UsageError(f"unknown {self.kind} '{name}': {suggest(name, self.names())}")
        return self._checked(name, self._load(plugins[name]))

    def make(self, name: str, **parameters: Any) -> Any:
        """A new object of the class called ``name``.

        Raises:
            UsageError: unknown name, unknown parameter or unusable value.
        """
        cls = self.get(name)
        known = self.parameters(name)
        for key in parameters:
            if key not in known:
                raise UsageError(f"unknown parameter '{key}' of {self.kind} '{name}': {suggest(key, known)}")
        try:
            return cls(**parameters)
        except TypeError as error:
            raise UsageError(f"{self.kind} '{name}' can't be made from {parameters}: {error}") from error

    def parameters(self, name: str) -> dict[str, Any]:
        """Constructor parameters of ``name`` with their defaults (`inspect.Parameter.empty` where there is none)."""
        signature = inspect.signature(self.get(name))
        return {key: parameter.default for key, parameter in signature.parameters.items()}

    def _plugins(self) -> dict[str, str]:
        return {point.name: point.value for point in entry_points(group=self.group)}

    def _load(self, target: str) -> Any:
        module, _, attribute = target.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise UsageError(f"{self.kind} '{target}' can't be imported: {error}") from error

    def _checked(self, name: str, cls: Any) -> type:
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise UsageError(f"'{name}' is not a {self.kind}: {cls!r} does not derive from {self.base.__qualname__}")
        return cls


caches = Registry(
    kind="cache",
    base=Cache,
    builtin={
        "none": "cache_zoo.none:NoCache",
        "prefix": "cache_zoo.prefix:PrefixCache",
        "dual": "cache_zoo.dual:DualCache",
        "dllm": "cache_zoo.dllm:DLLMCache",
        "d2cache": "cache_zoo.d2cache:D2Cache",
    },
    group="cache_zoo.caches",
)


def list_caches() -> list[str]:
    """Names of all caches, the built-in ones first; those of installed packages that fail to import only warn."""
    usable = []
    for name in caches.names():
        try:
            caches.get(name)
        except UsageError as error:
            warnings.warn(f"cache plug-in left out: {error}", RuntimeWarning, stacklevel=2)
        else:
            usable.append(name)
    return usable


def make_cache(name: str, **parameters: Any) -> Cache:
    """A new cache, for example ``make_cache("dllm", kp=50, kr=7, rou=0.25)``.

    Args:
        name: one of `list_caches`, or ``"module:Class"``.
        parameters: constructor arguments of that class.

    Raises:
        UsageError: unknown name or parameter (the message names the nearest valid one), or unusable value.
    """
    cache: Cache = caches.make(name, **parameters)
    return cache
