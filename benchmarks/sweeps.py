"""Sweeps of eval.py behind a benchmark, each run once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_sweep(overrides: Sequence[str], folder: Path) -> list[str]:
    """Names of the run folders of one sweep in ``folder``; one that is in its ``sweeps.json`` is not run again."""
    command = ["eval.py", "-m", *overrides, f"output_dir={folder}"]
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "sweeps.json"
    known: dict[str, list[str]] = json.loads(log.read_text()) if log.is_file() else {}
    key = " ".join(command)
    if key not in known:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        known[key] = [Path(json.loads(line)["folder"]).name for line in done.stdout.splitlines()]
        log.write_text(json.dumps(known, indent=2))
    return known[key]
