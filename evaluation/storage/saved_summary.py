"""The summary of a run that is done, read back from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cache_zoo.errors import require
from evaluation.storage.files import RESULTS, SAMPLES
from evaluation.storage.readers import read_json
from evaluation.storage.saved_run import SavedRun


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary as it was printed when the run was done, with ``folder`` as given.

    Raises:
        UsageError: results or samples are missing or damaged.
    """
    saved = SavedRun(folder)
    _ = saved.results  # checks every field
    require(saved.samples_path.is_file(), f"{folder / SAMPLES} is missing")
    return {**read_json(folder / RESULTS)["summary"], "status": "done", "folder": str(folder)}
