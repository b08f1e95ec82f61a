"""Checks of values, whatever their key: types, finite numbers, printable texts, names and paths.

OmegaConf's structured configs would convert what these refuse: ``seed='1'`` to 1, ``force=2`` to true,
``model.path=1`` to a text. So a dataclass gives the types, and its values are checked as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from cache_zoo import UsageError
from cache_zoo.errors import is_utf8, require, require_choice, require_type, shown

T = TypeVar("T")

_MISSING = "???"  # OmegaConf's mark of a value that must be given
_MAX_NAME_BYTES, _MAX_PATH_BYTES, _MAX_PART_BYTES = 100, 4_000, 250
"""A run folder has three names in its own, and file systems take 255 bytes."""


def read(cls: type[T], values: Mapping[str, Any], section: str = "") -> T:
    """An object of the dataclass ``cls``, with the keys and types of its fields.

    Fields are str, int, float, bool, ``list[str]``, Any or ``X | None``; ``section`` is the prefix of keys in messages.

    Raises:
        UsageError: an unknown or missing key, or a value of another type.
    """
    hints = get_type_hints(cls)
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for key in values:
        require_choice("key", f"{section}{key}", [f"{section}{name}" for name in known])
    for key in known:
        require(key in values, f"the configuration has no '{section}{key}'")
    return cls(**{key: check_type(f"{section}{key}", values[key], hints[key]) for key in known})


def check_type(key: str, value: Any, hint: Any) -> Any:
    """``value`` if it has the type of ``hint``; whole numbers pass for floats.

    Raises:
        UsageError: it has another type.
    """
    optional = NoneType in get_args(hint)
    kind = get_args(hint)[0] if optional else hint
    if get_origin(kind) is list:
        texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
        require(texts, f"{key} must be a list of texts, not {shown(value)}")
    elif kind is not Any:
        require_type(key, value, kind, optional)
    return float(value) if kind is float and value is not None else value


def require_plain(config: Any, key: str = "") -> None:
    """Raise `UsageError` if a value of a configuration is one that no key can have."""
    if isinstance(config, Mapping | list):
        inner = config.items() if isinstance(config, Mapping) else enumerate(config)
        for name, value in inner:
            place = f"{key}[{name}]" if isinstance(config, list) else f"{key}.{name}" if key else str(name)
            require_plain(value, place)
    elif isinstance(config, float):
        require(math.isfinite(config), f"{key} must be a finite number, not {config}")
    elif isinstance(config, int):
        require(abs(config) < 2**63, f"{key} must be a whole number of at most 64 bits, not {shown(config)}")
    elif isinstance(config, str):
        require(config != _MISSING, f"{key} has no value")
        require(_is_text(config), f"{key} must be text in UTF-8 without control characters, not {shown(config)}")


def _is_text(value: str) -> bool:
    controls = (char for char in value if (ord(char) < 32 or 127 <= ord(char) < 160) and char not in "\n\r\t")
    return is_utf8(value) and not any(controls)


def require_folder_name(key: str, name: str) -> None:
    """Raise `UsageError` unless ``name`` can be part of the name of a folder."""
    bad = [char for char in name if not char.isprintable() or char in '/\\:*?"<>|']
    require(
        name[:1].isalnum() and not bad and name == name.strip() and len(name.encode()) <= _MAX_NAME_BYTES,
        f"{key} names run folders: it must begin with a letter or digit and have at most {_MAX_NAME_BYTES} letters, "
        f"digits and signs such as - and _, not {shown(name)}",
    )


def expand_path(key: str, given: str) -> str:
    """A path with ``~`` expanded.

    Raises:
        UsageError: it is empty, unprintable or too long, or names an unknown user.
    """
    require(bool(given.strip()), f"{key} must not be empty")
    require(given.isprintable(), f"{key} must be a printable path, not {shown(given)}")
    parts = Path(given).parts
    require(
        len(given.encode()) <= _MAX_PATH_BYTES and all(len(part.encode()) <= _MAX_PART_BYTES for part in parts),
        f"{key} exceeds the length of a path ({_MAX_PATH_BYTES} bytes, {_MAX_PART_BYTES} between slashes): "
        f"{shown(given)}",
    )
    if not given.startswith("~"):
        return given
    try:
        return str(Path(given).expanduser())
    except RuntimeError as error:
        raise UsageError(f"{key} {shown(given)} is in the home folder of an unknown user: {error}") from error
