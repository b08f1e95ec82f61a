"""Read the settings of an untrusted run folder: nothing that they name is imported or fetched."""

from __future__ import annotations

import os
from pathlib import Path

from cache_zoo.errors import require
from evaluation.config.registered_choices import GROUPS
from evaluation.config.settings import ModelSettings, Settings
from evaluation.storage.plain_yaml import read_yaml
from evaluation.storage.readers import read_json_lines
from evaluation.storage.saved_run import SavedRun
from evaluation.tasks.scorers import SCORERS
from models.loading import CONFIGS, ROOT


def read_settings(run: SavedRun, device: str | None) -> Settings:
    """The settings of a run, on ``device`` if given.

    Raises:
        UsageError: they need code, data or a checkpoint that can't be trusted.
    """
    config = run.resolved
    if device is not None:
        config = {**config, "model": {**dict(config.get("model") or {}), "device": device}}
    settings = Settings.from_config(config, trusted=False)
    untrusted = f"of {run.folder.name} is not read from a run folder, which may be anyone's; draw your own run with "
    untrusted += "eval.py, its settings and trace=ROW"
    task = settings.dataset.name
    for group in GROUPS:
        target = getattr(run.config, group).target
        require(":" not in getattr(settings, group).target, f"the class {target} {untrusted}")
    require(settings.include_path is None, f"include_path {settings.include_path} {untrusted}")
    require(settings.generation.debias is None, f"the file {settings.generation.debias} {untrusted}")
    require(task in SCORERS, f"the task {task} {untrusted}; the tasks that are read here are {', '.join(SCORERS)}")
    _check_checkpoint(settings.model, run.folder)
    if settings.dataset.path is not None:
        _check_data(Path(settings.dataset.path).expanduser())
    return settings


def _check_checkpoint(model: ModelSettings, run: Path) -> None:
    """Refuse a checkpoint that only the run names, or that came along with it: chat templates are code."""
    known = [path.stem for path in CONFIGS.glob("*.yaml")]
    if model.name in known and model.path == read_yaml(CONFIGS / f"{model.name}.yaml").get("path"):
        return
    candidates = (os.path.expanduser(model.path), ROOT / model.path)
    folder = next((os.path.realpath(path) for path in candidates if os.path.isdir(path)), None)
    require(
        folder is None or not Path(folder).is_relative_to(os.path.dirname(os.path.realpath(run))),
        f"the checkpoint {model.path} lies beside {run.name} and may be part of it; use eval.py with trace=ROW",
    )
    require(
        folder is not None,
        f"the checkpoint {model.path} is neither a local folder nor that of model={model.name}; "
        "checkpoints that a run folder names are not downloaded",
    )


def _check_data(path: Path) -> None:
    """Read the data once within the bounds of samples, so that no file is endless."""
    files = sorted(path.glob("*.jsonl")) if os.path.isdir(path) else [path, *sorted(path.parent.glob("*.jsonl"))]
    for file in dict.fromkeys(map(os.path.realpath, files)):
        for _ in read_json_lines(Path(file)):
            pass
