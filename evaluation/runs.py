"""Run folders: what a run leaves behind, written so that no reader ever sees half a file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from evaluation.data import read_rows

CONFIG, RESULTS, SAMPLES, STATUS = "config.yaml", "results.json", "samples.jsonl", "status.json"


class Run:
    """The folder of one run.

    Args:
        folder: where; nothing is written before `start`.
        config: the resolved configuration.
        writes: False in all processes but one.
    """

    def __init__(self, folder: Path, config: dict[str, Any], writes: bool = True) -> None:
        self.folder, self._config, self._writes = folder, config, writes
        self.started = False

    def start(self) -> None:
        """Make the folder; results of an earlier run of the same configuration go."""
        self.started = True
        if not self._writes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._status("running")
        for name in (RESULTS, SAMPLES):
            (self.folder / name).unlink(missing_ok=True)
        write_text(self.folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(self._config)))

    def finish(self, results: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        """Write everything; the status goes last."""
        lines = (json.dumps(sample, ensure_ascii=False, default=str) for sample in samples)
        write_text(self.folder / SAMPLES, "".join(line + "\n" for line in lines))
        write_text(self.folder / RESULTS, json.dumps(results, indent=2, ensure_ascii=False, default=str) + "\n")
        self._status("done")

    def fail(self, error: BaseException) -> None:
        """Record why there are no results."""
        if self.started and self._writes:
            self._status("failed", error=f"{type(error).__name__}: {error}")

    def _status(self, status: str, **more: Any) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        write_text(self.folder / STATUS, json.dumps({"status": status, "date": now, **more}) + "\n")


def write_text(path: Path, text: str) -> None:
    """Put ``text`` in ``path`` in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_samples(folder: Path, columns: Mapping[str, type] | None = None) -> list[dict[str, Any]]:
    """The questions of a finished run: of ``samples.jsonl`` or, where a run is kept compressed, ``samples.jsonl.gz``.

    Args:
        folder: of the run.
        columns: what every question must have (see `evaluation.data.read_rows`).

    Raises:
        UsageError: neither file is there, or it is damaged.
    """
    plain, packed = folder / SAMPLES, folder / f"{SAMPLES}.gz"
    return read_rows(packed if packed.is_file() and not plain.is_file() else plain, columns)
