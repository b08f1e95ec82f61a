"""The one error type for what a user got wrong, and the search for what they meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """Something given to cache-zoo can't be used.

    The message names what was wrong, what was given and the nearest valid choice. Command-line programs print it
    without a traceback and exit with status 2.
    """


def suggest(given: str, choices: Iterable[str]) -> str:
    """A sentence for an unknown ``given``: the nearest of ``choices``, then all of them."""
    known = sorted(str(choice) for choice in choices)
    near = difflib.get_close_matches(str(given), known, n=1, cutoff=0.5)
    near = near or [choice for choice in known if given and choice.startswith(str(given))]
    listed = ", ".join(known) if known else "(none)"
    return f"did you mean '{near[0]}'? Valid choices: {listed}" if near else f"the valid choices are {listed}"


def require(condition: bool, message: str) -> None:
    """Raise `UsageError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise UsageError(message)
