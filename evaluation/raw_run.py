"""The files of a run folder as plain dicts, for `check` and `trace` until they read `evaluation.saved_run`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cache_zoo import UsageError
from cache_zoo.errors import require
from evaluation.runs import CONFIG, RESULTS, STATUS, read_samples

BASELINE = "none"
DONE = "done"
_NOT_COMPARED = ("cache", "output_dir", "code_execution_without", "recipe", "trace")
_AXES = ("model", "cache", "generation", "dataset")

Question = tuple[str, int]
"""Task and row of the dataset."""


@dataclass(frozen=True)
class RawRun:
    """A run in its folder; each file is read once, when it is first needed.

    Raises:
        UsageError: from all properties that read a file that is missing or damaged; all but ``config.yaml`` and
            ``status.json`` are there only once the run is done.
    """

    folder: Path

    @cached_property
    def status(self) -> dict[str, Any]:
        """The content of ``status.json``."""
        status = _read_json(self.folder / STATUS)
        require("status" in status, f"{self.folder / STATUS} has no 'status'")
        return status

    @property
    def done(self) -> bool:
        return bool(self.status["status"] == DONE)

    @cached_property
    def results(self) -> dict[str, Any]:
        """The content of ``results.json``."""
        return _read_json(self.folder / RESULTS)

    @property
    def summary(self) -> dict[str, Any]:
        return dict(self.results.get("summary", {}))

    @property
    def efficiency(self) -> dict[str, Any]:
        return dict(self.results.get("efficiency", {}))

    @property
    def provenance(self) -> dict[str, Any]:
        return dict(self.results.get("provenance", {}))

    @property
    def config_path(self) -> Path:
        """Of ``config.yaml``, which a run that was not begun may lack."""
        return self.folder / CONFIG

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, flat: ``{"cache.name": ...}``."""
        return flat(self.resolved)

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The resolved configuration, as `evaluation.settings.Settings.from_config` reads it."""
        try:
            config: Any = OmegaConf.to_container(OmegaConf.load(self.config_path))
        except OSError as error:
            raise UsageError(f"{self.config_path} can't be read: {error.strerror}") from error
        except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
            raise UsageError(f"{self.config_path} is not valid YAML") from error
        require(isinstance(config, Mapping), f"{self.config_path} must hold keys and values")
        return dict(config)

    @cached_property
    def raw_samples(self) -> list[dict[str, Any]]:
        """The lines of ``samples.jsonl``."""
        return read_samples(self.folder)

    @cached_property
    def samples(self) -> dict[Question, dict[str, Any]]:
        """The questions, in order."""
        rows = self.raw_samples
        try:
            found = {(str(row["task"]), int(row["doc_id"])): row for row in rows}
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"a question of {self.folder} has no task and doc_id") from error
        return dict(sorted(found.items(), key=lambda item: item[0]))

    @cached_property
    def scores(self) -> dict[Question, float] | None:
        """Headline score of each question; None where there is none, or where the score is not the mean of them."""
        metric, score = self.summary.get("metric"), self.summary.get("score")
        if metric is None or score is None:
            return None
        found = {question: sample.get("metrics", {}).get(metric) for question, sample in self.samples.items()}
        if not all(isinstance(value, int | float) for value in found.values()):
            return None
        values = {question: float(value) for question, value in found.items()}
        return values if abs(sum(values.values()) / len(values) - score) < 1e-6 else None

    @property
    def axes(self) -> dict[str, str]:
        """Names of model, cache, generation and dataset, of which the folder is called."""
        return dict(zip(_AXES, self.folder.name.split("__"), strict=False))

    @property
    def is_baseline(self) -> bool:
        return bool(self.config.get("cache.name") == BASELINE)

    @property
    def compared(self) -> dict[str, Any]:
        """What of the configuration two runs must share for their answers to be compared: all but the cache."""
        return {key: value for key, value in self.config.items() if key.split(".")[0] not in _NOT_COMPARED}

    @cached_property
    def setting(self) -> str:
        """`compared` as text, the same for runs that share it."""
        return json.dumps(self.compared, sort_keys=True, default=str)

    @property
    def moved(self) -> bool:
        """Whether it went on on another machine than it was begun on."""
        machine = self.provenance.get("machine")
        return isinstance(machine, Mapping) and bool(machine.get("several"))

    @cached_property
    def clock(self) -> str:
        """Everything that two runs must share besides for their seconds to be compared."""
        machine = [self.provenance.get(key) for key in ("machine", "device", "dtype")]
        torch = self.provenance.get("versions", {}).get("torch")
        return json.dumps([machine, torch, self.efficiency.get("processes")], sort_keys=True)


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not valid JSON: {error}") from error
    require(isinstance(content, dict), f"{path} must hold a JSON object, not {type(content).__name__}")
    return dict(content)
