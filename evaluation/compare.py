"""Runs beside the run without a cache that is otherwise the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from evaluation.runs import CONFIG, RESULTS, read_samples

BASELINE = "none"
_NOT_COMPARED = ("cache", "output_dir", "code_execution_without", "recipe")


@dataclass(frozen=True)
class Finished:
    """A finished run in its folder; each file is read once, when it is first needed."""

    folder: Path

    @cached_property
    def results(self) -> dict[str, Any]:
        """The content of ``results.json``."""
        return dict(json.loads((self.folder / RESULTS).read_text(encoding="utf-8")))

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, flat: ``{"cache.name": ...}``."""
        return flat(OmegaConf.to_container(OmegaConf.load(self.folder / CONFIG)))

    @cached_property
    def samples(self) -> dict[tuple[str, int], dict[str, Any]]:
        """The questions by task and number."""
        return {(sample["task"], sample["doc_id"]): sample for sample in read_samples(self.folder)}

    @property
    def is_baseline(self) -> bool:
        return bool(self.config.get("cache.name") == BASELINE)

    @property
    def setting(self) -> str:
        """Everything that two runs must share for their answers to be compared."""
        config = {key: value for key, value in self.config.items() if key.split(".")[0] not in _NOT_COMPARED}
        return json.dumps([config, self.results.get("provenance", {}).get("dataset_sha256")], sort_keys=True)

    @property
    def clock(self) -> str:
        """Everything that two runs must share besides for their seconds to be compared."""
        provenance = self.results.get("provenance", {})
        machine = [provenance.get(key) for key in ("machine", "device", "dtype")]
        return json.dumps([machine, self.results.get("efficiency", {}).get("processes")], sort_keys=True)


def speed_up(run: Finished, baseline: Finished) -> float | None:
    """Seconds of ``baseline`` over seconds of ``run`` for the same questions; None on different machines."""
    if run.clock != baseline.clock or run.samples.keys() != baseline.samples.keys():
        return None
    seconds = [one.results.get("efficiency", {}).get("seconds") for one in (baseline, run)]
    return seconds[0] / seconds[1] if all(seconds) else None


def agreement(run: Finished, baseline: Finished) -> float | None:
    """Mean over the questions of the share of answer tokens that are the same, position by position.

    The share is of the longer answer. None if the runs were not asked the same questions in the same prompts.
    """
    if not run.samples or run.samples.keys() != baseline.samples.keys():
        return None
    shares = []
    for key, sample in run.samples.items():
        other = baseline.samples[key]
        if sample["prompt_sha256"] != other["prompt_sha256"]:
            return None
        ours, theirs = sample["ids"], other["ids"]
        same = sum(a == b for a, b in zip(ours, theirs, strict=False))
        longer = max(len(ours), len(theirs))
        shares.append(same / longer if longer else 1.0)
    return sum(shares) / len(shares)


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
