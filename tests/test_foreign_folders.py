"""Folders that hold another run or cannot be written: nothing in them is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cache_zoo import UsageError
from evaluation.config import identity
from evaluation.config.settings import Settings
from evaluation.run.evaluate import evaluate_cell
from evaluation.run.folder import RunFolder
from evaluation.sweep.baselines import distinct
from evaluation.sweep.cell import Cell
from evaluation.sweep.sweep import announce
from tests.test_sweeps import settings


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one question, read-only."""
    cell = settings("dataset.size=1", f"output_dir={tmp_path_factory.mktemp('finished')}")
    evaluate_cell(cell)
    return RunFolder.of(cell).path


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("status", ["done", "gone", "damaged"])
def test_a_sweep_leaves_the_folder_of_another_run_alone(finished: Path, tmp_path: Path, status: str) -> None:
    cell = settings("dataset.size=1", "seed=9", f"output_dir={tmp_path}")
    folder = Path(shutil.copytree(finished, RunFolder.of(cell).path))
    if status == "gone":
        (folder / "status.json").unlink()
    if status == "damaged":
        (folder / "status.json").write_bytes(bytes(20))
    before = content(folder)
    announce([Cell(cell)])
    outcome = Cell(cell).attempt()
    assert (outcome.code, outcome.line["status"]) == (2, "skipped")
    assert "holds another run" in outcome.line["reason"]
    assert content(folder) == before


def one_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs with one hash."""
    monkeypatch.setattr(identity, "config_hash", lambda _: "0" * 8)


def test_two_runs_of_one_hash_are_not_taken_for_each_other(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_hash(monkeypatch)
    first, second = (settings("dataset.size=1", f"seed={seed}", f"output_dir={tmp_path}") for seed in (1, 2))
    assert RunFolder.of(first).path == RunFolder.of(second).path
    with pytest.raises(UsageError, match="two cells of the sweep have the same name"):
        distinct([first, second])
    assert distinct([first, first]) == [first]
    evaluate_cell(first)
    with pytest.raises(UsageError, match="holds another run"):
        RunFolder.of(second).require_own()
    RunFolder.of(first).require_own()


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize("text", [BOMB, "[" * 60_000, "a: 1\n" * 20_000, "\0", ""], ids=["bomb", "deep", *"123"])
def test_a_configuration_that_cannot_be_read_is_none(finished: Path, tmp_path: Path, text: str) -> None:
    cell = settings("dataset.size=1", f"output_dir={tmp_path}")
    folder = Path(shutil.copytree(finished, RunFolder.of(cell).path))
    (folder / "config.yaml").write_text(text)
    RunFolder.of(cell).require_own()


ODD = [
    "yes",
    "1e5",
    "2020-01-01",
    "a: b",
    "#",
    "a\nb ",
    "${a}",
    "\u2028",
    "\x7f",
    "'",
    " x",
    "=",
    "<<",
    ".inf",
    "0o7",
    "é",
]


def test_what_was_written_is_read_as_the_same_run(tmp_path: Path) -> None:
    cell = settings("generation.threshold=0.00001", f"output_dir={tmp_path}")
    for text in ODD:
        config = json.loads(json.dumps(cell.config))
        config["model"] |= {"system_prompt": text, "stop_words": [text]}
        run = RunFolder.of(odd(cell, config))
        run.set_status("pending")
        run.require_own()


def odd(cell: Settings, config: dict[str, Any]) -> Settings:
    from dataclasses import replace

    return replace(cell, config=config)


@pytest.mark.parametrize("where", [".", "answered"])
def test_a_run_folder_that_cannot_be_written_is_one_error(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Like another user's folder on a shared disk. Permissions do not bind a superuser, so it is refused here."""
    import tempfile

    cell = settings("dataset.size=1", "force=true", f"output_dir={tmp_path}")
    folder = Path(shutil.copytree(finished, RunFolder.of(cell).path))
    (folder / "answered").mkdir()
    real = tempfile.TemporaryFile

    def refused(dir: Path) -> Any:
        if dir == (folder / where):
            raise PermissionError(13, "Permission denied")
        return real(dir=dir)

    monkeypatch.setattr("evaluation.storage.disk.tempfile.TemporaryFile", refused)
    with pytest.raises(UsageError, match=f"can't be written to: {folder / where}: Permission denied"):
        RunFolder.of(cell).require_usable()
