"""Caches whose constructors raise what they like."""

from __future__ import annotations

from cache_zoo import Cache


class Asserts(Cache):
    def __init__(self, every: int = 3) -> None:
        assert every > 5


class Exits(Cache):
    def __init__(self) -> None:
        raise SystemExit(3)


class Looks(Cache):
    def __init__(self, every: int = 3) -> None:
        self.what = {3: "three"}[every]
