"""Texts that describe a run in a row: options, machine, package, group."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any
from urllib.parse import quote

from evaluation.config.identity import NEUTRAL
from evaluation.report.ranking import environment
from evaluation.storage.saved_run import SavedRun
from evaluation.storage.schema import GenerationGroup, Package

MAX_TEXT = 200  # characters of a text in a row


def cache_parameters(run: SavedRun) -> str | None:
    """Parameters of the cache as ``key=value ...``."""
    return _pairs(_options(run, "cache", {"name", "_target_"}))


def suffix_parameters(run: SavedRun) -> str | None:
    """Parameters of the suffix rule as ``key=value ...``."""
    return _pairs(_options(run, "suffix", {"name", "_target_"}))


def decoder_settings(run: SavedRun) -> str | None:
    """Options of the decoder that have no column of their own and are neither off nor neutral."""
    options = _options(run, "generation", set(GenerationGroup.model_fields))
    return _pairs({key: value for key, value in options.items() if not _is_off(f"generation.{key}", value)})


def machine(run: SavedRun) -> str | None:
    """Processor, threads, system and number of processes."""
    found, processes = run.provenance.machine, run.efficiency.processes
    threads = found.torch_threads
    words = [
        found.processor,
        threads and f"{threads} thread{'s' * (threads != 1)}",
        found.system,
        processes and processes > 1 and f"{processes} processes",
        found.several and "several machines",
    ]
    return ", ".join(str(word) for word in words if word) or None


def cache_package(run: SavedRun) -> str | None:
    """The package that provides the cache; None for cache-zoo."""
    code, package = run.provenance.cache_code, run.provenance.cache_package
    if code is not None and code.origin == "package":
        return " ".join(part for part in (code.name, code.version, (code.commit or "")[:10]) if part) or None
    return f"{package.name} {package.version or ''}".rstrip() if isinstance(package, Package) else package


def group(run: SavedRun) -> str:
    """Digest of what runs share that are ranked and timed against each other."""
    setting = {key: value for key, value in run.setting.items() if key not in NEUTRAL or value != NEUTRAL[key]}
    shared = [setting, run.provenance.dataset_sha256, run.clock, environment(run)]
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:8]


def config_hash(run: SavedRun) -> str | None:
    """Hash of the configuration, from the name of the folder."""
    found = re.fullmatch(r".+__([0-9a-f]{8})", run.folder.name)
    return found[1] if found else None


def folder_link(folder: str) -> str:
    """Address of a run folder; the dot keeps a folder "javascript:..." a folder."""
    return f"./{quote(folder.strip('/'), safe='/')}"


def shortened(text: str) -> str:
    """``text``, cut to `MAX_TEXT` characters."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def _is_off(key: str, value: Any) -> bool:
    return value is None or value is False or (key in NEUTRAL and value == NEUTRAL[key])


def _options(run: SavedRun, config_group: str, without: set[str]) -> dict[str, Any]:
    prefix = f"{config_group}."
    options = {key.removeprefix(prefix): value for key, value in run.options.items() if key.startswith(prefix)}
    return {key: value for key, value in options.items() if key not in without}


def _pairs(options: dict[str, Any]) -> str | None:
    """``key=value ...`` sorted by key, values as on the command line."""
    return shortened(" ".join(sorted(f"{key}={_quoted(value)}" for key, value in options.items()))) or None


def _quoted(value: Any) -> str:
    """A text as it is unless it would read as several options."""
    return value if isinstance(value, str) and re.fullmatch(r"[^\s=]+", value) else json.dumps(value)
