"""What libraries say: warnings and worse, on standard error; standard output belongs to the result."""

from __future__ import annotations

import logging.config
from pathlib import Path

import yaml

_SETTINGS = Path(__file__).resolve().parents[2] / "configs" / "hydra" / "job_logging" / "quiet.yaml"


def configure_logging() -> None:
    """As hydra does it for the jobs that it starts."""
    logging.config.dictConfig(yaml.safe_load(_SETTINGS.read_text(encoding="utf-8")))
