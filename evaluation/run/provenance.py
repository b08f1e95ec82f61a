"""What a result has to say about where it comes from."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from evaluation.run import code_origin as origin
from evaluation.storage.files import now

_PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "lm_eval",
    "datasets",
    "accelerate",
    "math-verify",
    "latex2sympy2_extended",
    "sympy",
)
"""That shape answers, scores or seconds."""


def provenance() -> dict[str, Any]:
    """Versions, commit, machine and date. What can't be had is None."""
    return {
        "date": now(),
        "versions": {
            "python": platform.python_version(),
            origin.NAME: origin.version(),
            **{name: _version(name) for name in _PACKAGES},
        },
        "git": origin.checkout(),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "torch_threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def merged(sessions: list[dict[str, Any]]) -> dict[str, Any]:
    """Where the figures of all sessions of a run come from, each with what `provenance` said then and its ``rank``.

    It is the last one's. Where there were several, they are in ``sessions``; machine, commit, weights and code of the
    cache are marked ``several`` where they were not the same throughout: seconds or answers are not those of one then.
    """
    of_first = [one for one in sessions if one["rank"] == min(each["rank"] for each in sessions)]
    listed = [{key: value for key, value in one.items() if key != "rank"} for one in of_first]
    last = max(listed, key=lambda one: str(one["date"]))
    found = {**last, "date": now()}
    if len(listed) > 1:
        found["sessions"] = sorted(listed, key=lambda one: str(one["date"]))
    alone = {key: (key,) for key in ("git", "model", "cache_code", "strategy_code")}
    for key, parts in {"machine": ("machine", "device", "dtype", "versions"), **alone}.items():
        # of several processes one tells the model
        if any(one.get(part, last.get(part)) != last.get(part) for one in sessions for part in parts):
            found[key] = {**(last[key] or {}), "several": True}
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine() or None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or None  # of ARM there are no names
