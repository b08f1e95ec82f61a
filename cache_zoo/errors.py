"""The one error type for what a user got wrong, and the search for what they meant."""

from __future__ import annotations

import difflib
import functools
import reprlib
import sys
from collections.abc import Callable, Iterable

from cache_zoo import streams

DONE, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses of all commands: done, failed, something given can't be used, interrupted with Ctrl-C."""
_LONGEST = 200
"""Letters of something given in a message."""
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _LONGEST


class UsageError(ValueError):
    """Something given to cache-zoo can't be used.

    The message names what was wrong, what was given and the nearest valid choice. Command-line programs print it
    without a traceback and exit with status 2.
    """


def suggest(given: str, choices: Iterable[str]) -> str:
    """A sentence for an unknown ``given``: the nearest of ``choices``, then all of them."""
    known = sorted(str(choice) for choice in choices)
    near = nearest(given, known)
    listed = ", ".join(known) if known else "(none)"
    return f"did you mean '{near}'? Valid choices: {listed}" if near else f"the valid choices are {listed}"


def nearest(given: str, choices: Iterable[str]) -> str | None:
    """The one of ``choices`` that is most like ``given``, capitals or not; None where none is like it."""
    known = {choice.casefold(): choice for choice in sorted(map(str, choices), reverse=True)}
    folded = str(given).casefold()
    near = difflib.get_close_matches(folded, known, n=1, cutoff=0.5)
    near = near or [choice for choice in sorted(known) if folded and choice.startswith(folded)]
    return known[near[0]] if near else None


def visible(text: str) -> str:
    """``text`` with everything that does not print as itself, such as line ends and codes for a terminal, escaped."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def short(text: str) -> str:
    """``text`` as a message names it: printable, and cut where it is longer than anybody reads."""
    text = visible(text[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def shown(value: object) -> str:
    """``value`` as a message quotes it: printable and short, however long and deep it is."""
    try:
        return short(_REPR.repr(value))
    except ValueError:  # Python writes no numbers of thousands of digits
        return "a number of thousands of digits"


def is_utf8(text: str) -> bool:
    """Whether ``text`` can be written; one with half a surrogate pair can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def require(condition: bool, message: str) -> None:
    """Raise `UsageError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise UsageError(message)


def refusing(main: Callable[[], int]) -> Callable[[], int]:
    """A program's ``main`` that prints a `UsageError` as one line and returns `UNUSABLE`.

    Its standard streams are steady; where standard output could not be written, it returns `FAILED`.
    """

    @functools.wraps(main)
    def run() -> int:
        streams.settle()
        try:
            code = main()
        except UsageError as error:
            lines = map(visible, str(error).split("\n"))  # a file's name may hold anything
            print("error:", "\n".join(lines), file=sys.stderr, flush=True)
            code = UNUSABLE
        return max(code, FAILED) if streams.lost() else code

    return run
