"""Registries: names to classes, imported when first used, open to installed packages through entry points."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import entry_points
from operator import attrgetter
from typing import Any

from cache_zoo.base import Cache
from cache_zoo.errors import UsageError, require_choice, shown, suggest, type_problem
from cache_zoo.suffixes.base import Suffix


@dataclass(frozen=True)
class Entry:
    """A name and its class, which may not have been imported yet.

    Attributes:
        name: for users.
        target: ``"module:Class"``.
        package, version: the installed package that adds it; None if built in.
        taken_by: origin of the earlier entry that holds the name, if there is one.
    """

    name: str
    target: str
    package: str | None = None
    version: str | None = None
    taken_by: str | None = None

    @property
    def origin(self) -> str:
        """``cache-zoo``, or package and version."""
        return "cache-zoo" if self.package is None else f"{self.package} {self.version}"


class Registry:
    """Classes by name.

    Args:
        kind: what is registered, for messages ("cache").
        base: class that every entry derives from.
        builtin: name to ``"module:Class"``.
        group: entry-point group of installed packages. A broken entry warns and is left out.
    """

    def __init__(self, kind: str, base: type, builtin: Mapping[str, str], group: str) -> None:
        self.kind, self.base, self.group = kind, base, group
        self._builtin = dict(builtin)

    def names(self) -> list[str]:
        """All names, built-in ones first."""
        return list(dict.fromkeys(entry.name for entry in self.entries()))

    def entries(self) -> list[Entry]:
        """Built-in entries, then those of installed packages sorted by package and name. The first holds a name."""
        installed = [
            Entry(point.name, point.value, point.dist.name, point.dist.version)
            for point in entry_points(group=self.group)
            if point.dist is not None
        ]
        installed.sort(key=lambda entry: (str(entry.package), entry.name))
        entries: dict[str, list[Entry]] = {}
        for entry in [*(Entry(name, target) for name, target in self._builtin.items()), *installed]:
            same = entries.setdefault(entry.name, [])
            same.append(replace(entry, taken_by=same[0].origin) if same else entry)
        return [entry for same in entries.values() for entry in same]

    def usable(self) -> list[Entry]:
        """The entries that load.

        Warns:
            RuntimeWarning: an entry of an installed package does not; it is left out.
        """
        usable = []
        for entry in self.entries():
            if problem := self.problem(entry):
                message = f"{self.kind} plug-in left out: '{entry.name}' of {entry.origin}: {problem}"
                warnings.warn(message, RuntimeWarning, stacklevel=1)  # one place, so it is shown once
            else:
                usable.append(entry)
        return usable

    def find(self, name: str) -> Entry:
        """The entry called ``name``.

        Raises:
            UsageError: there is none.
        """
        if name in self._builtin:  # no package can take it, and looking for packages takes milliseconds
            return Entry(name, self._builtin[name])
        entries = {entry.name: entry for entry in reversed(self.entries())}
        require_choice(self.kind, name, entries)
        return entries[name]

    def get(self, name: str) -> type:
        """The class called ``name``, or the one at ``"module:Class"``.

        Raises:
            UsageError: unknown name, or not a class of this kind.
        """
        return self._checked(name, self._load(name)) if ":" in name else self.load(self.find(name))

    def load(self, entry: Entry) -> type:
        """The class of ``entry``.

        Raises:
            UsageError: its name is taken, its import fails, or it is not a class of this kind.
        """
        if entry.taken_by is not None:
            raise UsageError(f"the name '{entry.name}' is taken by {entry.taken_by}")
        return self._checked(entry.name, self._load(entry.target))

    def problem(self, entry: Entry) -> str | None:
        """Why ``entry`` does not load, or None."""
        try:
            self.load(entry)
        except UsageError as error:
            return str(error)
        return None

    def make(self, name: str, /, **parameters: Any) -> Any:
        """A new object of the class called ``name``.

        Raises:
            UsageError: unknown name, unknown parameter or invalid value.
        """
        cls = self.get(name)
        known = _signature(cls)
        for key, value in parameters.items():
            if key not in known:
                raise UsageError(f"unknown parameter '{key}' of {self.kind} '{name}': {suggest(key, known)}")
            # the class itself checks parameters whose default has no simple type
            if problem := type_problem(value, type(known[key].default), _takes_none(known[key])):
                raise UsageError(f"{self.kind} '{name}' can't be made: parameter '{key}' {problem}")
        try:
            return cls(**parameters)
        except UsageError:
            raise
        except (Exception, SystemExit) as error:  # as in `_load`
            why = str(error) or type(error).__name__
            given = {key: value for key, value in parameters.items() if type(value).__module__ == "builtins"}
            raise UsageError(f"{self.kind} '{name}' can't be made from {shown(given)}: {why}") from error

    def parameters(self, name: str) -> dict[str, Any]:
        """Constructor parameters of ``name`` with their defaults (`inspect.Parameter.empty` where there is none)."""
        return parameters_of(self.get(name))

    def _load(self, target: str) -> Any:
        module, _, attribute = target.partition(":")
        try:
            return attrgetter(attribute)(import_module(module))
        except (Exception, SystemExit) as error:  # foreign code may raise anything
            raise UsageError(f"{self.kind} '{target}' can't be imported: {type(error).__name__}: {error}") from error

    def _checked(self, name: str, cls: Any) -> type:
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise UsageError(f"'{name}' is not a {self.kind}: {cls!r} does not derive from {self.base.__qualname__}")
        return cls


def parameters_of(cls: type) -> dict[str, Any]:
    """Constructor parameters of ``cls`` with their defaults (`inspect.Parameter.empty` where there is none)."""
    return {name: parameter.default for name, parameter in _signature(cls).items()}


def _signature(cls: type) -> dict[str, inspect.Parameter]:
    """Constructor parameters of ``cls`` that have a name."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(cls).parameters
    return {name: parameter for name, parameter in parameters.items() if parameter.kind in named}


def _takes_none(parameter: inspect.Parameter) -> bool:
    """Whether None fits a parameter: its default is None, or its annotation says so, or it has none."""
    annotation = parameter.annotation
    return parameter.default is None or annotation is parameter.empty or "None" in str(annotation)


caches = Registry(
    kind="cache",
    base=Cache,
    builtin={
        "none": "cache_zoo.methods.none:NoCache",
        "prefix": "cache_zoo.methods.prefix:PrefixCache",
        "dual": "cache_zoo.methods.dual:DualCache",
        "dllm": "cache_zoo.methods.dllm:DLLMCache",
        "d2cache": "cache_zoo.methods.d2cache:D2Cache",
        "vicinity": "cache_zoo.methods.vicinity:VicinityCache",
        "dsb": "cache_zoo.methods.dsb:DSBCache",
        "freecache": "cache_zoo.methods.freecache:FreeCache",
        "dkv": "cache_zoo.methods.dkv:DKVCache",
        "dkv_greedy": "cache_zoo.methods.dkv_greedy:DKVGreedyCache",
        "elastic": "cache_zoo.methods.elastic:ElasticCache",
        "dyllm": "cache_zoo.methods.dyllm:DyLLMCache",
        "sparsed": "cache_zoo.methods.sparsed:SparseDCache",
        "sparse": "cache_zoo.methods.sparse:SparseCache",
        "maskkv": "cache_zoo.methods.maskkv:MaskKVCache",
        "entropy": "cache_zoo.methods.entropy:EntropyCache",
    },
    group="cache_zoo.caches",
)
suffixes = Registry(
    kind="suffix",
    base=Suffix,
    builtin={
        "all": "cache_zoo.suffixes.all:AllSuffix",
        "window": "cache_zoo.suffixes.window:WindowSuffix",
        "dropout": "cache_zoo.suffixes.dropout:DropoutSuffix",
    },
    group="cache_zoo.suffixes",
)


def list_caches() -> list[str]:
    """Names of all caches, the built-in ones first.

    Warns:
        RuntimeWarning: an entry of an installed package does not load; it is left out.
    """
    return [entry.name for entry in caches.usable()]


def make_cache(name: str, **parameters: Any) -> Cache:
    """A new cache, for example ``make_cache("dllm", kp=50, kr=7, rou=0.25)``.

    Args:
        name: one of `list_caches`, or ``"module:Class"``.
        parameters: constructor arguments of that class.

    Raises:
        UsageError: unknown name or parameter (the message names the nearest valid one), or invalid value.
    """
    cache: Cache = caches.make(name, **parameters)
    return cache


def list_suffixes() -> list[str]:
    """Names of all suffix rules, the built-in ones first.

    Warns:
        RuntimeWarning: an entry of an installed package does not load; it is left out.
    """
    return [entry.name for entry in suffixes.usable()]


def make_suffix(name: str, **parameters: Any) -> Suffix:
    """A new suffix rule, for example ``make_suffix("window", window=96)``.

    Args:
        name: one of `list_suffixes`, or ``"module:Class"``.
        parameters: constructor arguments of that class.

    Raises:
        UsageError: unknown name or parameter (the message names the nearest valid one), or invalid value.
    """
    suffix: Suffix = suffixes.make(name, **parameters)
    return suffix
