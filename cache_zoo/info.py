"""Metadata of caches and of other registered classes, from their docstrings, attributes, constructors and packages."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from cache_zoo.arguments import spelled
from cache_zoo.base import Cache
from cache_zoo.docstrings import description_of, documented, prose
from cache_zoo.registry import Entry, Registry, caches, parameters_of


@dataclass(frozen=True)
class ParameterInfo:
    """A constructor parameter.

    Attributes:
        name: of the parameter.
        default: its default value; None if it is required.
        required: there is no default.
        text: its explanation in the docstring.
    """

    name: str
    default: Any
    required: bool
    text: str

    def __str__(self) -> str:
        return self.name if self.required else f"{self.name}={spelled(self.default)}"


@dataclass(frozen=True)
class Info:
    """Metadata of a registered class for users.

    Attributes:
        name: by which it is chosen.
        target: its class, ``"module:Class"``.
        package, version: the installed package that adds it; None if built in.
        error: why it does not load, or None; with an error, everything below is empty.
        summary: first paragraph of the docstring, in one line.
        description: the docstring up to its sections, unchanged.
        paper: source of the method.
        urls: addresses in ``paper``, those of arXiv ids included.
        parameters: of the constructor.
    """

    name: str
    target: str
    package: str | None = None
    version: str | None = None
    error: str | None = None
    summary: str = ""
    description: str = ""
    paper: str = ""
    urls: tuple[str, ...] = ()
    parameters: tuple[ParameterInfo, ...] = ()

    @property
    def origin(self) -> str:
        """``cache-zoo``, or package and version."""
        return "cache-zoo" if self.package is None else f"{self.package} {self.version}"

    @property
    def capabilities(self) -> list[str]:
        """Requirements and exactness, in words."""
        return []

    def as_dict(self) -> dict[str, Any]:
        """All fields and the capabilities as plain data."""
        return {**asdict(self), "capabilities": self.capabilities}


@dataclass(frozen=True)
class CacheInfo(Info):
    """Cache metadata for users.

    Attributes:
        needs_attention, needs_blocks, exact, exact_with: see `cache_zoo.Cache`.
    """

    needs_attention: bool = False
    needs_blocks: bool = False
    exact: bool = False
    exact_with: dict[str, Any] | None = None

    @property
    def capabilities(self) -> list[str]:
        words = ["needs attention weights"] * self.needs_attention
        words += ["needs block_length < gen_length"] * self.needs_blocks
        if self.exact:
            words.append("exact")
        elif self.exact_with:
            words.append("exact with " + " ".join(f"{key}={spelled(value)}" for key, value in self.exact_with.items()))
        elif self.exact_with is not None:
            words.append("exact where a block takes one forward" if self.needs_blocks else "exact with its defaults")
        return words


def describe(name: str) -> CacheInfo:
    """Metadata of the cache ``name``, with ``error`` set if it does not load.

    Raises:
        UsageError: unknown name.
    """
    return _describe_cache(caches.find(name))


def describe_all() -> list[CacheInfo]:
    """Metadata of all registered caches, built-in ones first, broken ones included."""
    return [_describe_cache(entry) for entry in caches.entries()]


def describe_entries(registry: Registry, without: Iterable[str] = ()) -> list[Info]:
    """Metadata of all entries of ``registry``, built-in ones first, broken ones included.

    Args:
        registry: of any kind.
        without: constructor parameters that users do not give.
    """
    infos = []
    for entry in registry.entries():
        problem = registry.problem(entry)
        facts = {"error": problem} if problem else _facts(registry.load(entry), without)
        infos.append(Info(entry.name, entry.target, entry.package, entry.version, **facts))
    return infos


def describe_class(name: str, cls: type, without: Iterable[str] = ()) -> Info:
    """Metadata of a built-in class that is in no registry; ``without`` as in `describe_entries`."""
    return Info(name, f"{cls.__module__}:{cls.__qualname__}", **_facts(cls, without))


def _facts(cls: type, without: Iterable[str] = ()) -> dict[str, Any]:
    """What a class says of itself: the fields of `Info` from ``summary`` on."""
    texts, description, empty = documented(cls, "Args"), description_of(cls), inspect.Parameter.empty
    paper = getattr(cls, "paper", "")
    return {
        "summary": prose(description.partition("\n\n")[0]),
        "description": description,
        "paper": paper,
        "urls": _urls(paper),
        "parameters": tuple(
            ParameterInfo(name, None if default is empty else default, default is empty, texts.get(name, ""))
            for name, default in parameters_of(cls).items()
            if name not in without
        ),
    }


def _describe_cache(entry: Entry) -> CacheInfo:
    if problem := caches.problem(entry):
        return CacheInfo(entry.name, entry.target, entry.package, entry.version, error=problem)
    cls: type[Cache] = caches.load(entry)
    return CacheInfo(
        entry.name,
        entry.target,
        entry.package,
        entry.version,
        **_facts(cls),
        needs_attention=cls.needs_attention,
        needs_blocks=cls.needs_blocks,
        exact=cls.exact,
        exact_with=cls.exact_with,
    )


def _urls(paper: str) -> tuple[str, ...]:
    """Addresses in the text, in order."""
    matches = re.finditer(
        r"arXiv[: ]\s*(?P<arxiv>\d{4}\.\d{4,5})|(?P<url>https?://[^\s,)]*[^\s,;.)])", paper, re.IGNORECASE
    )
    return tuple(f"https://arxiv.org/abs/{match['arxiv']}" if match["arxiv"] else match["url"] for match in matches)
