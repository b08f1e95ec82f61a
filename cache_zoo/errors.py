"""`UsageError`, the checks that raise it, and how messages quote what was given."""

from __future__ import annotations

import difflib
import functools
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real

from cache_zoo import standard_streams

DONE, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses of all commands: success, failure, unusable input, interrupted with Ctrl-C."""
_MAX_QUOTED = 200
"""Characters of a value that a message quotes."""
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _MAX_QUOTED
_TYPES: dict[type, tuple[type | tuple[type, ...], str]] = {
    bool: (bool, "true or false"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "text"),
    list: ((list, tuple), "a list"),
    dict: (Mapping, "an object"),
}
"""What a value of each type may be to Python, and what messages call it."""


class UsageError(ValueError):
    """Unusable input. The message names what was wrong, what was given and the nearest valid choice.

    Command-line programs print it without a traceback and exit with status 2.
    """


def suggest(given: str, choices: Iterable[str]) -> str:
    """The nearest of ``choices`` to an unknown ``given``, then all of them, as text for a message."""
    known = sorted(str(choice) for choice in choices)
    near = nearest(given, known)
    listed = ", ".join(known) if known else "(none)"
    return f"did you mean '{near}'? Valid choices: {listed}" if near else f"the valid choices are {listed}"


def nearest(given: str, choices: Iterable[str]) -> str | None:
    """The most similar of ``choices``, ignoring case; None if none is similar."""
    known = {choice.casefold(): choice for choice in sorted(map(str, choices), reverse=True)}
    folded = str(given).casefold()
    near = difflib.get_close_matches(folded, known, n=1, cutoff=0.5)
    near = near or [choice for choice in sorted(known) if folded and choice.startswith(folded)]
    return known[near[0]] if near else None


def visible(text: str) -> str:
    """``text`` with every unprintable character escaped, such as line ends and terminal codes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def short(text: str) -> str:
    """``text`` made printable and cut to a length that fits a message."""
    text = visible(text[: _MAX_QUOTED + 1])
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}..."


def shown(value: object) -> str:
    """The ``repr`` of ``value``, printable and short however long and deep it is."""
    try:
        return short(_REPR.repr(value))
    except ValueError:  # Python refuses to print integers of thousands of digits
        return "a number of thousands of digits"


def first_line(error: BaseException, otherwise: str | None = None) -> str:
    """The first line of an error's message; of an empty one ``otherwise``, by default the name of its class."""
    name = type(error).__name__ if otherwise is None else otherwise
    return next(iter(str(error).strip().splitlines()), name)


def is_utf8(text: str) -> bool:
    """Whether ``text`` can be encoded: text with a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def require(condition: bool, message: str) -> None:
    """Raise `UsageError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise UsageError(message)


def require_choice(what: str, given: object, choices: Iterable[str]) -> None:
    """Raise `UsageError` that suggests the nearest choice unless ``given`` is one of ``choices``."""
    choices = list(choices)
    if given not in choices:
        raise UsageError(f"unknown {what} {_quoted(given)}: {suggest(str(given)[:_MAX_QUOTED], choices)}")


def require_type(name: str, value: object, kind: type, optional: bool = False) -> None:
    """Raise `UsageError` unless ``value`` is of type ``kind``; see `type_problem`."""
    if problem := type_problem(value, kind, optional):
        raise UsageError(f"{name} {problem}")


def type_problem(value: object, kind: type, optional: bool = False) -> str | None:
    """``must be a whole number, not 'x'`` if ``value`` is not of type ``kind``, else None.

    An integer is a float as well; a boolean is no number. Any value fits a type without a name in messages, and None
    fits an ``optional`` one.
    """
    accepted, words = _TYPES.get(kind, (object, ""))
    fits = isinstance(value, accepted) and (accepted in (bool, object) or not isinstance(value, bool))
    words += " or null" * optional
    return None if fits or (optional and value is None) else f"must be {words}, not {shown(value)}"


def _quoted(given: object) -> str:
    return f"'{short(given)}'" if isinstance(given, str) else shown(given)


def refusing(main: Callable[[], int]) -> Callable[[], int]:
    """Wrap a program's ``main``: print a `UsageError` as one line and return `UNUSABLE`.

    Standard streams are hardened; if standard output could not be written, the program returns `FAILED`.
    """

    @functools.wraps(main)
    def run() -> int:
        standard_streams.harden()
        try:
            code = main()
        except UsageError as error:
            lines = map(visible, str(error).split("\n"))  # file names may hold anything
            print("error:", "\n".join(lines), file=sys.stderr, flush=True)
            code = UNUSABLE
        return max(code, FAILED) if standard_streams.output_lost() else code

    return run
