"""What the registry and the docstrings say about a cache, in the shape in which the page shows it."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape

from cache_zoo import UsageError, caches

_ARXIV = re.compile(r"\b(\d{4}\.\d{4,5})\b")


@dataclass(frozen=True)
class Parameter:
    """A constructor parameter: its default and its line of the docstring."""

    name: str
    default: str
    help: Markup


@dataclass(frozen=True)
class Enumeration:
    """A list of a docstring, as ``ul`` or ``ol``."""

    tag: str
    items: list[Markup]


@dataclass(frozen=True)
class Facts:
    """A cache as its class describes it; all empty for a class that is not registered here.

    Attributes:
        paper: its source, with arXiv ids as links.
        text: paragraphs and lists of the docstring; the first is the summary.
        parameters: of the constructor.
        capabilities: sentences.
    """

    registered: bool = False
    paper: Markup = field(default_factory=Markup)
    text: list[Markup | Enumeration] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    capabilities: list[str] = field(default_factory=list)


def cache_facts(name: str) -> Facts:
    """Facts of the cache called ``name``."""
    try:
        cls: Any = caches.get(name)
        defaults = caches.parameters(name)
    except UsageError:
        return Facts()
    description, _, arguments = (inspect.getdoc(cls) or "").partition("\nArgs:\n")
    helps = _entries(arguments)
    return Facts(
        registered=True,
        paper=_linked(cls.paper),
        text=[_block(block) for block in description.strip().split("\n\n") if block],
        parameters=[
            Parameter(
                key, "required" if default is inspect.Parameter.empty else str(default), _code(helps.get(key, ""))
            )
            for key, default in defaults.items()
        ],
        capabilities=_capabilities(cls),
    )


def arxiv_link(arxiv: str) -> str | None:
    """Address of a paper, None if ``arxiv`` has no arXiv id."""
    found = _ARXIV.search(arxiv)
    return f"https://arxiv.org/abs/{found[1]}" if found else None


def _capabilities(cls: Any) -> list[str]:
    said = []
    if cls.exact:
        said.append("Exact: decodes what full recomputation decodes, whatever its parameters.")
    elif cls.exact_with is not None:
        values = " ".join(f"{key}={value}" for key, value in cls.exact_with.items())
        said.append(f"Exact with {values}." if values else "Exact where each block takes one forward.")
    if cls.needs_blocks:
        said.append("Needs blocks: saves nothing unless block_length is below gen_length.")
    if cls.needs_attention:
        said.append("Reads attention weights (head means of the rows that run).")
    return said


def _entries(arguments: str) -> dict[str, str]:
    """``name: help`` lines of a docstring's Args section; further-indented lines go on."""
    entries: dict[str, str] = {}
    for line in arguments.partition("\n\n")[0].splitlines():
        name, colon, text = line.strip().partition(":")
        if line.startswith("    ") and not line.startswith("     ") and colon:
            last = name
            entries[last] = text.strip()
        elif entries:
            entries[last] += f" {line.strip()}"
    return entries


def _block(block: str) -> Markup | Enumeration:
    _, *items = re.split(r"^(?:\*|\d+\.) ", block, flags=re.MULTILINE)
    if re.match(r"\*|\d+\.", block) and items:
        return Enumeration("ul" if block.startswith("*") else "ol", [_code(item) for item in items])
    return _code(block)


def _code(text: str) -> Markup:
    """Escaped text with its ``code`` and `names` marked."""
    return Markup(re.sub(r"(`+)(.+?)\1", r"<code>\2</code>", str(escape(" ".join(text.split())))))


def _linked(paper: str) -> Markup:
    return Markup(_ARXIV.sub(r'<a href="https://arxiv.org/abs/\1">\1</a>', str(escape(paper))))
