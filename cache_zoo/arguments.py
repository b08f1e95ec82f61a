"""Command lines: paths, names and the prompt are positional, every option is ``key=value``.

The options of a command are a dataclass. Its annotations give the types, its docstring the text of ``--help``.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from math import isfinite
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from cache_zoo.docstrings import description_of, documented
from cache_zoo.errors import DONE, UsageError, nearest, require, require_choice, shown, suggest, type_problem

T = TypeVar("T")

_FLAG = re.compile(r"--?[A-Za-z][\w-]*(=.*)?", re.DOTALL)
_KEY_VALUE = re.compile(r"\+?([A-Za-z_][\w.]*)=(.*)", re.DOTALL)  # eval needs a + where a key is new
_SENTENCE = re.compile(r"(?<!\.)\. ")  # ends, but not the dots of 1, 2, ... n


def positional(default: Any = MISSING) -> Any:
    """A field given by its place; one annotated ``list[...]`` takes all that are left."""
    given = {"default_factory": default.copy} if isinstance(default, list) else {"default": default}
    return field(**given, metadata={"positional": True})


def named(key: str, default: Any) -> Any:
    """A field whose key is not its name."""
    return field(default=default, metadata={"key": key})


def grouped(prefix: str, of: type | None = None) -> Any:
    """A dict of the values given as ``prefix`` + KEY; ``of`` is the dataclass of the keys, None allows any key.

    A field of that dataclass annotated ``Mapping`` takes all other keys. Its attribute ``CHOICES``, if it has one, has
    the values of keys that are names, which the help shows; the dataclass itself checks them.
    """
    return field(default_factory=dict, metadata={"prefix": prefix, "of": of})


@dataclass(frozen=True)
class _Option:
    """A key or a positional argument.

    Attributes:
        key: how it is written; that of a `grouped` without known keys ends with ``KEY``.
        hint, default, text: its annotation, its default (`MISSING`: it must be given), its line of the help.
        field: of the dataclass.
        prefix: of the group; None outside of one.
    """

    key: str
    hint: Any
    default: Any
    text: str
    field: str
    prefix: str | None = None
    positional: bool = False
    choices: tuple[str, ...] = ()

    @property
    def is_list(self) -> bool:
        return get_origin(self.hint) is list

    def matches(self, key: str) -> bool:
        if self.hint is Any:
            return key.startswith(str(self.prefix)) and key != self.prefix
        return key == self.key and not self.positional


def read(options: type[T], program: str, arguments: Sequence[str] | None = None) -> T:
    """The options of a command line; ``--help`` prints them and exits.

    Args:
        options: a dataclass of str, int, float, bool, Path, Literal, lists of these, ``X | None`` and `grouped`.
        program: name of the command, for the help.
        arguments: the command line; None: that of the process.

    Raises:
        UsageError: an unknown key, an unusable value, a missing or surplus argument.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    known = _options(options)
    if "--help" in arguments or "-h" in arguments:
        print(_help(options, program, known))
        raise SystemExit(DONE)
    keys = [option.key for option in known if not option.positional]
    values: dict[str, Any] = {}
    places = []
    for argument in arguments:
        if _FLAG.fullmatch(argument):
            raise UsageError(_new_spelling(argument.partition("=")[0], keys))
        if pair := _KEY_VALUE.fullmatch(argument):
            key, text = pair.groups()
            option = next((option for option in known if option.matches(key)), None)
            if option is None:
                raise UsageError(f"unknown option '{key}': {suggest(_meant(key, keys) or key, keys)}")
            value = _value(key, text, option.hint)
            if option.prefix is None:
                values[option.field] = value
            else:
                values.setdefault(option.field, {})[key.removeprefix(option.prefix)] = value
        else:
            places.append(argument)
    return options(**_placed(places, known, program), **values)


def _options(options: Any) -> list[_Option]:
    hints, texts = get_type_hints(options), documented(options, "Attributes")
    known = []
    for entry in fields(options):
        about, text = entry.metadata, texts.get(entry.name, "")
        if "prefix" not in about:
            default = entry.default if entry.default_factory is MISSING else entry.default_factory()
            if get_origin(hints[entry.name]) is Mapping:  # takes the keys of its group that no other field has
                known.append(_Option("KEY", Any, None, text, entry.name))
                continue
            placed = "positional" in about
            key = entry.name.upper() if placed else about.get("key", entry.name)
            known.append(_Option(key, hints[entry.name], default, text, entry.name, positional=placed))
        elif about["of"] is None:
            known.append(_Option(f"{about['prefix']}KEY", Any, None, text, entry.name, about["prefix"]))
        else:
            for option in _options(about["of"]):
                key, text = about["prefix"] + option.key, _SENTENCE.split(option.text)[0]
                choices = getattr(about["of"], "CHOICES", {}).get(option.key, ())
                option = replace(option, key=key, text=text, field=entry.name, prefix=about["prefix"], choices=choices)
                known.append(option)
    return known


def _meant(name: str, keys: list[str]) -> str | None:
    """The key that a wrong ``name`` stands for: the same without its group, or the most similar one."""
    return next((key for key in keys if key.rpartition(".")[2] == name), None) or nearest(name, keys)


def _new_spelling(flag: str, keys: list[str]) -> str:
    near = _meant(flag.lstrip("-").replace("-", "_"), keys)
    choices = f"did you mean '{near}='?" if near else f"the valid options are {', '.join(keys) or '(none)'}"
    return f"'{flag}' is not an option, options are written key=value: {choices}"


def _placed(given: list[str], known: list[_Option], program: str) -> dict[str, Any]:
    """Values of the positional fields."""
    left, values = given, {}
    for option in known:
        if not option.positional:
            continue
        taken, left = (left, []) if option.is_list else (left[:1], left[1:])
        if taken and option.is_list:
            values[option.field] = [_value(option.key, text, get_args(option.hint)[0]) for text in taken]
        elif taken:
            values[option.field] = _value(option.key, taken[0], option.hint)
        else:
            require(option.default is not MISSING, f"{option.key} is missing; usage: {_usage(program, known)}")
    if left:
        raise UsageError(f"{shown(left[0])} is one argument too many; text with blanks needs quotes")
    return values


def _value(key: str, text: str, hint: Any) -> Any:
    """``text`` as the type that ``hint`` names."""
    kinds = get_args(hint) or (hint,)
    if get_origin(hint) is list:
        items = text.removeprefix("[").removesuffix("]")
        return [_value(key, item.strip(), kinds[0]) for item in items.split(",")] if items.strip() else []
    if get_origin(hint) is Literal:
        require_choice(key, text, kinds)
        return text
    if NoneType in kinds and text == "null":
        return None
    convert, _ = _TYPES[kinds[0]]
    try:
        return convert(text)
    except (ValueError, KeyError, RuntimeError) as error:
        problem = type_problem(text, kinds[0], NoneType in kinds) or f"can't be {shown(text)}"
        raise UsageError(f"{key} {problem}") from error


def _literal(text: str) -> Any:
    """``text`` with numbers, true, false and null read as such."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, float) and not isfinite(value):
        raise ValueError
    return value


def _path(text: str) -> Path:
    if not text:
        raise ValueError
    return Path(text).expanduser() if text.startswith("~") else Path(text)


_TYPES: dict[Any, tuple[Callable[[str], Any], str]] = {
    bool: (lambda text: {"true": True, "false": False}[text.lower()], "true|false"),
    int: (int, "N"),
    float: (float, "X"),
    str: (str, "TEXT"),
    Path: (_path, "PATH"),
    Any: (_literal, "VALUE"),
}
"""Per type: the conversion, and the placeholder of the help."""


def _usage(program: str, known: list[_Option]) -> str:
    names = [f"{option.key} ..." if option.is_list else option.key for option in known if option.positional]
    required = [option.default is MISSING for option in known if option.positional]
    shown_names = [name if needed else f"[{name}]" for name, needed in zip(names, required, strict=True)]
    return " ".join([program, *shown_names, *["[key=value ...]"] * (len(names) < len(known))])


def _help(options: type, program: str, known: list[_Option]) -> str:
    names = [option.key if option.positional else f"{option.key}={_placeholder(option)}" for option in known]
    indent = min(max(map(len, names), default=0), 32) + 4
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 60), 120)
    lines = [f"usage: {_usage(program, known)}", "", description_of(options), ""]
    for name, option in zip(names, known, strict=True):
        default = "" if option.default in (MISSING, None, False, []) else f" (default: {spelled(option.default)})"
        lines += textwrap.wrap(
            f"{option.text.rstrip('.')}{default}",
            width,
            initial_indent=f"  {name}  ".ljust(indent),
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def _placeholder(option: _Option) -> str:
    hint = option.hint
    if names := option.choices or (get_args(hint) if get_origin(hint) is Literal else ()):
        return "|".join(names)
    first = (get_args(hint) or (hint,))[0]
    return f"[{_TYPES[first][1]},...]" if option.is_list else _TYPES[first][1]


def spelled(value: Any) -> str:
    """A value as the command line spells it; a list as arguments."""
    if isinstance(value, list):
        return " ".join(map(spelled, value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
