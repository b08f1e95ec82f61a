"""What differs between runs or cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.config.identity import NEUTRAL

_NAMED = ("model.name", "model.path", "cache.name", "suffix.name", "store", "dataset.name", "output_dir")


def options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a flat configuration, the keys that neither its axes nor its folder name; missing ones have neutral values."""
    values = {**config, **{key: value for key, value in NEUTRAL.items() if key not in config}}
    return {key: value for key, value in values.items() if key not in _NAMED and key.split(".")[0] != "recipe"}


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys whose value is not the same in all ``settings``, in the order of their appearance; a missing key is None."""
    keys = dict.fromkeys(key for setting in settings for key in setting)
    return [key for key in keys if len({repr(setting.get(key)) for setting in settings}) > 1]


def option_text(value: Any) -> str:
    """A value as on the command line."""
    return "null" if value is None else str(value)
