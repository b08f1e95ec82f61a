"""Command lines of the project's programs: what can't be used is one line that names the nearest valid choice."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from cache_zoo.errors import suggest


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser`, but for its errors: ``error: ...`` in one line, and status 2."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        found, others = super().parse_known_args(args, namespace)
        for other in others:
            name = other.partition("=")[0]
            if name.startswith("-"):
                self.error(f"unknown option '{name}': {suggest(name, self._options())}")
            self.error(f"'{other}' is one argument too many; what has blanks in it needs quotes")
        return found, others

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"there is no '{value}': {suggest(str(value), action.choices)}")

    def error(self, message: str) -> NoReturn:
        print(f"error: {message}", file=sys.stderr)
        self.exit(2)

    def _options(self) -> list[str]:
        return [text for text in self._option_string_actions if text.startswith("--")]
