"""Provenance of results: versions, commit, machine and date of each session."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from evaluation.run import code_origin as origin
from evaluation.storage.files import now

_PACKAGES = """
torch transformers tokenizers safetensors numpy lm_eval datasets accelerate math-verify latex2sympy2_extended sympy
""".split()
"""Those that shape answers, scores or seconds."""


def provenance() -> dict[str, Any]:
    """Versions, commit, machine and date; None for what is not available."""
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
    """The provenance of a run from that of its sessions, which have a ``rank`` besides.

    It is that of the last session. A resumed run lists its ``sessions``, and marks machine, commit, weights or code as
    ``several`` if they changed between sessions: its seconds or answers have more than one source.
    """
    lowest = min(session["rank"] for session in sessions)
    listed = [
        {key: value for key, value in session.items() if key != "rank"}
        for session in sessions
        if session["rank"] == lowest
    ]
    listed.sort(key=lambda session: str(session["date"]))
    last = listed[-1]
    result = {**last, "date": now()}
    if len(listed) > 1:
        result["sessions"] = listed
    codes = ("cache_code", "suffix_code", "strategy_code")
    compared: dict[str, tuple[str, ...]] = {key: (key,) for key in ("git", "model", *codes)}
    compared["machine"] = ("machine", "device", "dtype", "versions")
    for key, parts in compared.items():
        # only the main process records the model
        if any(session.get(part, last.get(part)) != last.get(part) for session in sessions for part in parts):
            result[key] = {**(last[key] or {}), "several": True}
    return result


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
    return names[0] if names else platform.processor() or platform.machine() or None  # ARM lists no names
