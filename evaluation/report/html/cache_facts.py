"""Cache metadata as the page shows it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from cache_zoo import UsageError, describe

_ARXIV = re.compile(r"\b(\d{4}\.\d{4,5})(?!\d)")


@dataclass(frozen=True)
class Enumeration:
    """A list of a docstring, as ``ul`` or ``ol``."""

    tag: str
    items: list[Markup]


@dataclass(frozen=True)
class Facts:
    """A cache as its class describes it; empty for an unregistered class.

    Attributes:
        paper: the source, with arXiv ids as links.
        text: paragraphs and lists of the docstring; the first is the summary.
        parameters: of the constructor: name, default and line of the docstring.
        capabilities: sentences, from `cache_zoo.CacheInfo`.
    """

    registered: bool = False
    paper: Markup = field(default_factory=Markup)
    text: list[Markup | Enumeration] = field(default_factory=list)
    parameters: list[tuple[str, str, Markup]] = field(default_factory=list)
    capabilities: list[str] = field(default_factory=list)


def cache_facts(name: str) -> Facts:
    """Facts of the cache ``name``."""
    try:
        info = describe(name)
    except UsageError:
        return Facts()
    if info.error is not None:
        return Facts()
    return Facts(
        registered=True,
        paper=_linked(info.paper),
        text=[_block(block) for block in info.description.split("\n\n") if block],
        parameters=[
            (one.name, "required" if one.required else str(one.default), _code(one.text)) for one in info.parameters
        ],
        capabilities=[f"{words[0].upper()}{words[1:]}." for words in info.capabilities],
    )


def arxiv_link(arxiv: str) -> str | None:
    """Address of a paper; None if ``arxiv`` has no arXiv id."""
    found = _ARXIV.search(arxiv)
    return f"https://arxiv.org/abs/{found[1]}" if found else None


def _block(block: str) -> Markup | Enumeration:
    _, *items = re.split(r"^(?:\*|\d+\.) ", block, flags=re.MULTILINE)
    if re.match(r"\*|\d+\.", block) and items:
        return Enumeration("ul" if block.startswith("*") else "ol", [_code(item) for item in items])
    return _code(block)


def _code(text: str) -> Markup:
    """Escaped text with ``code`` and `names` marked up."""
    return Markup(re.sub(r"(`+)(.+?)\1", r"<code>\2</code>", str(escape(" ".join(text.split())))))


def _linked(paper: str) -> Markup:
    """``paper`` with addresses and arXiv ids as links."""

    def link(found: re.Match[str]) -> str:
        address = found[0] if found["address"] else f"https://arxiv.org/abs/{found[0]}"
        return f'<a href="{address}">{found[0]}</a>'

    return Markup(re.sub(rf"(?P<address>https?://[^\s,)]*[^\s,;.)])|{_ARXIV.pattern}", link, str(escape(paper))))
