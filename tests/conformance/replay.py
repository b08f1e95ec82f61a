"""A case decoded with our objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from cache_zoo import Cache, make_cache
from generation import GenerationOutput, generate
from tests.conformance.case import Case


class NotReplayedError(Exception):
    """The case needs something that this project does not offer yet."""


@dataclass(frozen=True)
class Replay:
    """Our objects for a case.

    Attributes:
        options: of `generation.generate`.
        cache: name of the cache, or "module:class".
        parameters: of the cache.
        suffix: a `cache_zoo.Suffix` or None.
    """

    options: dict[str, Any]
    cache: str = "none"
    parameters: dict[str, Any] = field(default_factory=dict)
    suffix: Any = None

    def make_cache(self) -> Cache:
        module, _, name = self.cache.partition(":")
        if not name:
            return make_cache(self.cache, **self.parameters)
        return getattr(import_module(module), name)(**self.parameters)

    @property
    def has_idle_forwards(self) -> bool:
        """Whether the schedule has forwards that commit nothing: Dream's quota may be 0."""
        return self.options.get("schedule", "even") != "even"

    def run(self, case: Case, cache: Cache | None = None) -> GenerationOutput:
        """Decode the case, with a trace."""
        extra = {} if self.suffix is None else {"suffix": self.suffix}
        return generate(case.model(), case.prompts, cache or self.make_cache(), trace=True, **extra, **self.options)
