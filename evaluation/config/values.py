"""What the value of any key may be, whatever it means: finite numbers, texts that are texts, names and paths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache_zoo import UsageError
from cache_zoo.errors import is_utf8, require, shown

_MISSING = "???"
"""As YAML says it for hydra."""
_LONGEST_NAME, _LONGEST_PATH, _LONGEST_PART = 100, 4_000, 250
"""In bytes; a run folder has three names in its own, and systems take 255."""


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
    return is_utf8(value) and not any((ord(one) < 32 or 127 <= ord(one) < 160) and one not in "\n\r\t" for one in value)


def check_name(key: str, name: str) -> None:
    """Raise `UsageError` unless a name can be part of the name of a folder."""
    bad = [one for one in name if not one.isprintable() or one in '/\\:*?"<>|']
    require(
        name[:1].isalnum() and not bad and name == name.strip() and len(name.encode()) <= _LONGEST_NAME,
        f"{key} names run folders: it must begin with a letter or digit and be of at most {_LONGEST_NAME} letters, "
        f"digits and signs such as - and _, not {shown(name)}",
    )


def path_of(key: str, given: str) -> str:
    """A path with ``~`` expanded."""
    require(bool(given.strip()), f"{key} must not be empty")
    require(given.isprintable(), f"{key} must be a path that can be printed, not {shown(given)}")
    parts = Path(given).parts
    require(
        len(given.encode()) <= _LONGEST_PATH and all(len(part.encode()) <= _LONGEST_PART for part in parts),
        f"{key} is longer than a path can be ({_LONGEST_PATH} bytes, {_LONGEST_PART} between slashes): {shown(given)}",
    )
    if not given.startswith("~"):
        return given
    try:
        return str(Path(given).expanduser())
    except RuntimeError as error:
        raise UsageError(f"{key} {shown(given)} names the home of a user that is not known: {error}") from error
