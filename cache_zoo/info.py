"""Cache metadata, from the docstring, attributes and constructor of its class and from its package."""

from __future__ import annotations

import inspect
import re
from dataclasses import asdict, dataclass
from typing import Any

from cache_zoo.arguments import spelled
from cache_zoo.base import Cache
from cache_zoo.docstrings import description_of, documented, prose
from cache_zoo.registry import Entry, caches, parameters_of


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
class CacheInfo:
    """Cache metadata for users.

    Attributes:
        name: what `cache_zoo.make_cache` takes.
        target: its class, ``"module:Class"``.
        package, version: the installed package that adds it; None if built in.
        error: why it does not load, or None; with an error, everything below is empty.
        summary: first paragraph of the docstring, in one line.
        description: the docstring up to its sections, unchanged.
        paper: source of the method.
        urls: addresses in ``paper``, those of arXiv ids included.
        parameters: of the constructor.
        needs_attention, needs_blocks, exact, exact_with: see `cache_zoo.Cache`.
    """

    name: str
    target: str
    package: str | None
    version: str | None
    error: str | None = None
    summary: str = ""
    description: str = ""
    paper: str = ""
    urls: tuple[str, ...] = ()
    parameters: tuple[ParameterInfo, ...] = ()
    needs_attention: bool = False
    needs_blocks: bool = False
    exact: bool = False
    exact_with: dict[str, Any] | None = None

    @property
    def origin(self) -> str:
        """``cache-zoo``, or package and version."""
        return "cache-zoo" if self.package is None else f"{self.package} {self.version}"

    @property
    def capabilities(self) -> list[str]:
        """Requirements and exactness, in words."""
        words = ["needs attention weights"] * self.needs_attention
        words += ["needs block_length < gen_length"] * self.needs_blocks
        if self.exact:
            words.append("exact")
        elif self.exact_with:
            words.append("exact with " + " ".join(f"{key}={spelled(value)}" for key, value in self.exact_with.items()))
        elif self.exact_with is not None:
            words.append("exact where a block takes one forward" if self.needs_blocks else "exact with its defaults")
        return words

    def as_dict(self) -> dict[str, Any]:
        """All fields and the capabilities as plain data."""
        return {**asdict(self), "capabilities": self.capabilities}


def describe(name: str) -> CacheInfo:
    """Metadata of the cache ``name``, with ``error`` set if it does not load.

    Raises:
        UsageError: unknown name.
    """
    return _describe(caches.find(name))


def describe_all() -> list[CacheInfo]:
    """Metadata of all registered caches, built-in ones first, broken ones included."""
    return [_describe(entry) for entry in caches.entries()]


def _describe(entry: Entry) -> CacheInfo:
    if problem := caches.problem(entry):
        return CacheInfo(entry.name, entry.target, entry.package, entry.version, error=problem)
    cls: type[Cache] = caches.load(entry)
    texts = documented(cls, "Args")
    description = description_of(cls)
    empty = inspect.Parameter.empty
    return CacheInfo(
        entry.name,
        entry.target,
        entry.package,
        entry.version,
        summary=prose(description.partition("\n\n")[0]),
        description=description,
        paper=cls.paper,
        urls=_urls(cls.paper),
        parameters=tuple(
            ParameterInfo(name, None if default is empty else default, default is empty, texts.get(name, ""))
            for name, default in parameters_of(cls).items()
        ),
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
