"""Unusable output folders, full disks, and closed or full streams."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cache_zoo import UsageError
from evaluation.config.command_line import cells
from evaluation.run.evaluate import evaluate_cell
from evaluation.storage.disk import require_place
from evaluation.sweep.cell import Cell
from tests.test_sweeps import QUICK, ROOT, command, environment, settings, status_of


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "output_dir must not be empty"),
        ("'  '", "output_dir must not be empty"),
        ("/dev/null", "/dev/null is not a folder"),
        ("/dev/null/below", "/dev/null is not a folder"),
        ("{tmp}/file", "file is not a folder; delete it or give another"),
        ("{tmp}/file/a/b", "file is not a folder; delete it or give another"),
        ("{tmp}/dangling", "is a link to nothing"),
        ("{tmp}/" + "x" * 300, "output_dir exceeds the length of a path"),
        ("/proc/new", "output_dir /proc/new can't be written to"),
        ("~nobody-of-that-name/x", "is in the home folder of an unknown user"),
    ],
)
def test_an_output_dir_that_cannot_be_used_is_one_error(tmp_path: Path, given: str, message: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError) as caught:
        evaluate_cell(settings("dataset.size=1", f"output_dir={given.replace('{tmp}', str(tmp_path))}"))
    assert message in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = settings("output_dir=~/out", "dataset.path='~/data'", "model.path=~/weights", "include_path=~")
    assert found.output_dir == str(tmp_path / "out")
    assert (found.dataset.path, found.model.path) == (str(tmp_path / "data"), str(tmp_path / "weights"))
    assert found.include_path == str(tmp_path)
    sweep = cells(["output_dir=~/a,~/b,c"], sweep=True)
    assert [cell.output_dir for cell in sweep] == [str(tmp_path / "a"), str(tmp_path / "b"), "c"]


def test_a_place_is_tried_without_a_trace(tmp_path: Path) -> None:
    require_place(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.sampled(6)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
@pytest.mark.parametrize("where", ["evaluation.run.journal.os.fsync", "evaluation.storage.files.os.replace"])
def test_a_failing_disk_leaves_a_run_that_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, where: str
) -> None:
    cell = settings("dataset.size=2", f"output_dir={tmp_path}")
    calls = []

    def refuse(*_: Any) -> None:
        calls.append(1)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(where, refuse)
        outcome = Cell(cell).attempt()
    assert calls
    assert (outcome.code, outcome.line["status"]) == (1, "partial")
    assert os.strerror(number) in outcome.line["reason"]
    assert Cell(cell).attempt().line["status"] == "done"  # without retry=


FULL_DISK = """
set -e
mount -t tmpfs -o size=300k tmpfs "$1"
{run} output_dir="$1/out" && exit 9
test -z "$(ls -A "$1")"
mount -o remount,size=1100k "$1"
( while ! ls "$1"/out/*/answered/*.jsonl; do sleep 0.02; done; cat /dev/zero > "$1/fill" ) > "$2" 2>&1 &
{run} -m cache=none,dual output_dir="$1/out" && exit 9
wait
grep -l partial "$1"/out/*/status.json
rm "$1/fill"
mount -o remount,size=4m "$1"
exec {run} -m cache=none,dual output_dir="$1/out"
"""


@pytest.mark.slow
def test_a_disk_that_really_is_full(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here, which a small disk is mounted in")
    (tmp_path / "disk").mkdir()
    program = " ".join([*command(), *QUICK, "dataset.size=8"])
    script = FULL_DISK.replace("{run}", program)
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", script, "bash", str(tmp_path / "disk"), str(tmp_path / "log")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("No space left on device") >= 2
    assert done.stdout.count('"status": "done"') == 2


def shell(line: str, tmp_path: Path) -> tuple[int, str]:
    """Exit status and standard error of a shell's command line, in which {eval} is eval.py with a short sweep."""
    program = " ".join([*command(), "-m", "cache=none,dual", f"output_dir={tmp_path}/out", "dataset.size=1", *QUICK])
    script = line.replace("{eval}", program).replace("{python}", sys.executable)
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True, timeout=200
    )
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "{eval} | head -c 1 > /dev/null; exit ${PIPESTATUS[0]}",
        "{eval} > /dev/full",
        "{eval} >&-",
        "{eval} 2>&-",
        "{eval} > /dev/null 2> /dev/full",
        "{eval} > /dev/full 2>&1",
        "{eval} <&- >&- 2>&-",
        "{eval} 2>&1 | true; exit ${PIPESTATUS[0]}",
    ],
)
def test_no_stream_ends_a_sweep_or_a_cell(line: str, tmp_path: Path) -> None:
    code, err = shell(line, tmp_path)
    assert code == 0
    assert "Traceback" not in err
    assert err.count("error:") == err.count("error: standard output can't be written: No space left on device")
    assert [status_of(folder)["status"] for folder in (tmp_path / "out").glob("nano*")] == ["done", "done"]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{python} eval.py --help | head -1 > /dev/null; exit ${PIPESTATUS[0]}", (0, "")),
        pytest.param("{python} eval.py --help >&-", (0, ""), marks=pytest.mark.slow),
        (
            "{python} eval.py --help > /dev/full",
            (1, "error: standard output can't be written: No space left on device\n"),
        ),
        pytest.param(
            "{python} -m evaluation generate --help | head -1 > /dev/null; exit ${PIPESTATUS[0]}",
            (0, ""),
            marks=pytest.mark.slow,
        ),
        pytest.param("{python} -m evaluation list | true; exit ${PIPESTATUS[0]}", (0, ""), marks=pytest.mark.slow),
        pytest.param(
            "{python} -m evaluation list > /dev/full",
            (1, "error: standard output can't be written: No space left on device\n"),
            marks=pytest.mark.slow,
        ),
        ("{python} eval.py modle=x 2>&-", (2, "")),
    ],
)
def test_a_reader_that_leaves_is_no_error(line: str, expected: tuple[int, str], tmp_path: Path) -> None:
    assert shell(line, tmp_path) == expected
