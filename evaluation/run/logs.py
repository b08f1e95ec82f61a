"""Logging setup."""

from __future__ import annotations

import logging.config
from pathlib import Path

import yaml

_SETTINGS = Path(__file__).resolve().parents[2] / "configs" / "hydra" / "job_logging" / "quiet.yaml"


def configure_logging() -> None:
    """Send warnings and errors of libraries to standard error, as hydra does for its jobs."""
    logging.config.dictConfig(yaml.safe_load(_SETTINGS.read_text(encoding="utf-8")))
