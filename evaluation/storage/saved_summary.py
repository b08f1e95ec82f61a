"""The summary of a run that is done, read back from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from types import NoneType
from typing import Any

from evaluation.storage.files import RESULTS, SAMPLES, as_json

_PRINTED: dict[str, Any] = {
    "status": str,
    "n": int,
    "score": (int, float, NoneType),
    "tokens_per_second": (int, float, NoneType),
}
"""The fields that progress lines need, with their types."""


class DamagedRunError(Exception):
    """A run says it is done, but a file of it is missing or damaged."""


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary in ``results.json``, as it was printed when the run was done, with ``folder`` as given.

    Raises:
        DamagedRunError: ``results.json`` or the samples are missing or damaged.
    """
    try:
        summary = dict(json.loads((folder / RESULTS).read_text(encoding="utf-8"))["summary"])
        damaged = summary["status"] != "done" or any(
            not isinstance(summary[key], types) or isinstance(summary[key], bool) for key, types in _PRINTED.items()
        )
        as_json(summary)  # fails if nested too deep to be printed
    except OSError as error:
        raise DamagedRunError(f"{RESULTS} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, RecursionError):
        damaged = True
    if damaged:
        raise DamagedRunError(f"{RESULTS} is damaged")
    if not any((folder / name).is_file() for name in (SAMPLES, f"{SAMPLES}.gz")):
        raise DamagedRunError(f"{SAMPLES} is missing")
    return {**summary, "folder": str(folder)}
