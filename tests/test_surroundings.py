"""Damaged journals, folders and statuses, refused locks, odd texts."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cache_zoo import UsageError
from evaluation.config.settings import Settings
from evaluation.run.batching import BatchRunner
from evaluation.run.distributed import Processes
from evaluation.run.evaluate import evaluate_cell
from evaluation.run.folder import InUseError, RunFolder
from evaluation.run.journal import Journal, _sign, count_answered
from evaluation.storage.files import as_json, not_finite, write_status, write_text
from evaluation.storage.saved_run import SavedRun
from evaluation.sweep.cell import Cell
from tests.test_sweeps import Number, answers, environment, job, settings, status_of


def journal_with(folder: Path, batches: int) -> Path:
    journal = Journal(folder)
    journal.open({"date": "1"})
    for number in range(batches):
        journal.add("t", [["t", number]], {"answers": [{"ids": [number], "value": -1 / 3}]})
    return folder / "0-of-1.jsonl"


def cut(line: bytes) -> bytes:
    return line[: len(line) // 2]


def another_answer(line: bytes) -> bytes:
    return line.replace(b'"ids": [1]', b'"ids": [7]')


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "NULs": lambda line: b"\0" * len(line),
    "NULs within": lambda line: line[:20] + b"\0" * 20 + line[40:],
    "cut": cut,
    "not UTF-8": lambda line: line[:-9] + b"\xff\xfe" + line[-9:],
    "another shape": lambda _: b'{"kind": "t", "questions": [["t", 1]], "answers": null}',
    "a list": lambda _: b"[1, 2]",
    "a number": lambda _: b"5",
    "nothing": lambda _: b"{}",
    "nothing, signed": lambda _: _sign({}).encode(),
    "no questions, signed": lambda _: _sign({"kind": "t", "questions": 5}).encode(),
    "deep": lambda _: b"[" * 100_000,
    "huge number": lambda _: b"1" * 10_000,
    "another answer": another_answer,
    "two lines in one": lambda line: line + line,
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_line_is_answered_again(tmp_path: Path, damage: str) -> None:
    file = journal_with(tmp_path, 3)
    lines = file.read_bytes().splitlines()
    lines[1] = DAMAGES[damage](lines[1])
    file.write_bytes(b"\n".join(lines) + b"\n")
    journal = Journal(tmp_path)
    with pytest.warns(RuntimeWarning, match=r"0-of-1\.jsonl, line 2 is damaged; its batches are answered again"):
        journal.open({"date": "2"})
    found = [journal.find("t", [["t", number]]) for number in range(3)]
    assert [entry is not None for entry in found] == [True, False, True]
    assert found[2] is not None
    assert found[2]["answers"] == [{"ids": [2], "value": -1 / 3}]
    journal.add("t", [["t", 1]], {"answers": [{}]})
    assert count_answered(tmp_path) == 3
    Journal(tmp_path).open({})  # the file is mended: no warning


def test_entries_of_the_journal_that_are_no_files_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "0-of-1.jsonl").mkdir()
    os.mkfifo(tmp_path / "1-of-2.jsonl")
    (tmp_path / "2-of-2.jsonl").symlink_to("nowhere")
    journal = Journal(tmp_path)
    with pytest.warns(RuntimeWarning, match="is not a plain file"):
        journal.open({})
    journal.add("t", [["t", 0]], {"answers": [{}]})
    assert count_answered(tmp_path) == 1


def test_a_batch_of_another_version_is_answered_again(tmp_path: Path) -> None:
    journal_with(tmp_path, 1)
    journal = Journal(tmp_path)
    journal.open({})
    with pytest.warns(RuntimeWarning, match="another version of the code"):
        assert BatchRunner(1, Processes(), journal).saved_result(job([]), [Number(0)]) is None


@pytest.mark.parametrize(
    "given",
    [
        *({"RANK": "x"}, {"WORLD_SIZE": "0"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "-1"}),
        *({"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "MASTER_ADDR": "here"}, {"WORLD_SIZE": "2", "MASTER_PORT": "1"}),
    ],
)
def test_variables_of_a_launcher_that_make_no_sense(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UsageError, match="a launcher's variables"):
        Processes.from_launcher()


def test_a_run_resumes_past_a_damaged_journal(tmp_path: Path) -> None:
    cell = settings("dataset.size=3", f"output_dir={tmp_path}")
    whole = evaluate_cell(cell)
    assert whole is not None
    expected = answers(whole.folder)
    run = interrupted(cell)
    file = run.path / "answered" / "0-of-1.jsonl"
    lines = file.read_bytes().splitlines()
    lines[0] = b"\0" * 50
    file.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.warns(RuntimeWarning, match="line 1 is damaged"):
        evaluate_cell(cell)
    assert answers(whole.folder) == expected


def interrupted(cell: Settings) -> RunFolder:
    """The folder of a cell that ended after its last answer."""
    run = RunFolder.of(cell)
    finish = RunFolder.finish

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    RunFolder.finish = stop  # type: ignore[assignment, method-assign]
    try:
        with pytest.raises(KeyboardInterrupt):
            evaluate_cell(cell)
    finally:
        RunFolder.finish = finish  # type: ignore[method-assign]
    assert run.status["status"] == "partial"
    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert evaluate_cell(settings("dataset.size=1", f"output_dir={folder}")) is not None
    return folder


def copied(finished: Path, tmp_path: Path) -> tuple[Settings, Path]:
    shutil.copytree(finished, tmp_path / "out")
    cell = settings("dataset.size=1", f"output_dir={tmp_path / 'out'}")
    return cell, RunFolder.of(cell).path


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b"\0" * 99, b"[]", b"{}", b'{"summary": null}', b'{"summary": {"status": "done"}}', b"[" * 99999],
)
def test_a_run_that_lost_its_results_is_run_again(finished: Path, tmp_path: Path, content: bytes | None) -> None:
    cell, folder = copied(finished, tmp_path)
    results = folder / "results.json"
    whole = json.loads(results.read_text())["summary"]
    results.unlink() if content is None else results.write_bytes(content)
    with pytest.raises(UsageError, match=r"results\.json"):
        SavedRun(folder).printed_summary()
    outcome = Cell(cell).attempt()
    assert (outcome.code, outcome.line["status"], outcome.line["score"]) == (0, "done", whole["score"])
    assert json.loads(results.read_text())["summary"]["n"] == 1


def test_a_summary_that_is_too_deep_to_be_printed_is_damaged(finished: Path, tmp_path: Path) -> None:
    _, folder = copied(finished, tmp_path)
    found = (folder / "results.json").read_text()
    (folder / "results.json").write_text(found.replace('"summary": {', f'"summary": {{"x": {"[" * 900}{"]" * 900},'))
    with pytest.raises(UsageError, match=r"results\.json"):
        SavedRun(folder).printed_summary()


def test_a_run_without_its_samples_is_not_done(finished: Path, tmp_path: Path) -> None:
    cell, folder = copied(finished, tmp_path)
    (folder / "samples.jsonl").rename(folder / "away")
    assert Cell(cell).saved is None
    shutil.copy(folder / "away", folder / "samples.jsonl.gz")  # as a submission packs them
    assert Cell(cell).saved is not None


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 99, b"{", b"[]", b'{"status": null}', b'{"status": ["done"]}', b'{"status": "whatever"}']
)
def test_a_status_that_says_nothing_is_none(finished: Path, tmp_path: Path, content: bytes) -> None:
    cell, folder = copied(finished, tmp_path)
    (folder / "status.json").write_bytes(content)
    for name in ("results.json", "samples.jsonl", "config.yaml"):
        (folder / name).unlink()
    assert Cell(cell).attempt().line["status"] == "done"


def test_the_status_of_a_dead_process_blocks_nothing(finished: Path, tmp_path: Path) -> None:
    cell, folder = copied(finished, tmp_path)
    write_status(folder / "status.json", "running", pid=1, host="elsewhere", heartbeat="2020-01-01")
    assert Cell(cell).attempt().line["status"] == "done"


@pytest.mark.parametrize(
    ("name", "is_folder"),
    [
        ("status.json", True),
        ("results.json", True),
        ("config.yaml", True),
        ("samples.jsonl", True),
        ("answered", False),
    ],
)
def test_a_thing_of_the_wrong_kind_is_one_line(finished: Path, tmp_path: Path, name: str, is_folder: bool) -> None:
    cell, folder = copied(finished, tmp_path)
    thing = folder / name
    thing.unlink(missing_ok=True)
    thing.mkdir() if is_folder else thing.touch()
    with pytest.raises(UsageError, match=f"{name} is not a (folder|plain file); delete it"):
        evaluate_cell(cell)
    outcome = Cell(cell).attempt()
    assert (outcome.code, outcome.line["status"]) == (2, "skipped")
    assert "delete it" in outcome.line["reason"]


@pytest.mark.parametrize("where", ["folder", ".locks", ".locks/lock"])
def test_a_file_where_a_folder_belongs_is_one_line(tmp_path: Path, where: str) -> None:
    cell = settings("dataset.size=1", f"output_dir={tmp_path}")
    folder = RunFolder.of(cell).path
    if where == "folder":
        folder.touch()
    elif where == ".locks":
        (tmp_path / ".locks").touch()
    else:
        (tmp_path / ".locks" / f"{folder.name}.lock").mkdir(parents=True)
    with pytest.raises(UsageError, match="delete it"):
        evaluate_cell(cell)
    assert Cell(cell).attempt().code == 2


def test_a_folder_under_the_name_of_another_run_is_not_taken_for_it(finished: Path, tmp_path: Path) -> None:
    _, folder = copied(finished, tmp_path)
    other = settings("dataset.size=1", "cache=dual", f"output_dir={tmp_path / 'out'}")
    folder.rename(RunFolder.of(other).path)
    with pytest.raises(UsageError, match=r"holds another run \(see its config\.yaml\)"):
        evaluate_cell(other)
    outcome = Cell(other).attempt()
    assert (outcome.code, outcome.line["status"]) == (2, "skipped")
    assert status_of(outcome.line["folder"])["status"] == "done"  # nothing is written into it


def test_temporary_files_have_names_of_their_own_and_leftovers_go(tmp_path: Path) -> None:
    file = tmp_path / "leaderboard.csv"
    left = tmp_path / ".leaderboard.csv.1234.tmp"
    written = tmp_path / f".leaderboard.csv.{os.getpid()}.tmp"  # by a process of that number in another container
    for one in (left, written, tmp_path / ".other.csv.1.tmp"):
        one.write_text("half")
    with written.open("r+") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        write_text(file, "whole")
        assert written.read_text() == "half"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file.name, written.name, ".other.csv.1.tmp"])
    write_text(file, "again")
    assert not written.exists()
    assert file.read_text() == "again"


def test_many_processes_write_one_file(tmp_path: Path) -> None:
    """Like containers on a shared disk, whose processes have the same id."""
    program = (
        "import os, sys; os.getpid = lambda: 7\n"
        "from pathlib import Path; from evaluation.storage.files import write_text\n"
        "for _ in range(100): write_text(Path(sys.argv[1]), sys.argv[2] * 999)"
    )
    file = tmp_path / "status.json"
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(file), letter], env=environment(), stderr=subprocess.PIPE)
        for letter in "ab"
    ]
    while any(process.poll() is None for process in started):
        if file.exists():
            assert file.read_text() in ("a" * 999, "b" * 999)
    assert [process.communicate()[1] for process in started] == [b"", b""]
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EPERM])
def test_locks_that_are_refused_are_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("evaluation.run.folder.LOCK_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UsageError, match="cannot be locked"):
        RunFolder.of(settings(f"output_dir={tmp_path}")).start()


def test_a_lock_without_a_status_is_of_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.run.folder.LOCK_TIMEOUT_SECONDS", 0.1)
    cell = settings("dataset.size=1", f"output_dir={tmp_path}")
    run = RunFolder.of(cell)
    run.start()
    try:
        (run.path / "status.json").unlink()
        with pytest.raises(InUseError, match="is in use by another process"):
            evaluate_cell(cell)
    finally:
        run.fail(KeyboardInterrupt())


TEXTS = ["half \ud83d a surrogate", "\x1b[31m\x00\x7f\x9b", "\u2028\u202e<script>", "=cmd|' /C calc'!A0"]


def test_no_text_or_number_keeps_a_run_from_being_written(tmp_path: Path) -> None:
    run = RunFolder.of(settings(f"output_dir={tmp_path}"))
    run.start()
    scores = {"nan": float("nan"), "inf": [1.0, float("-inf")], ("a", "tuple"): {1, 2}, 5: None}
    with pytest.warns(RuntimeWarning, match=r"not finite, so null: summary\.score\.nan, summary\.score\.inf\[1\]"):
        run.finish({"summary": {"texts": TEXTS, "score": scores}}, [{"raw": text, "outcome": text} for text in TEXTS])
    text = (run.path / "results.json").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert found["summary"]["texts"] == TEXTS
    assert found["summary"]["score"] == {"nan": None, "inf": [1.0, None], "('a', 'tuple')": "{1, 2}", "5": None}
    assert found["not_finite"] == ["summary.score.nan", "summary.score.inf[1]"]
    lines = (run.path / "samples.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line)["raw"] for line in lines if line] == TEXTS


def test_an_error_with_any_text_is_recorded(tmp_path: Path) -> None:
    run = RunFolder.of(settings(f"output_dir={tmp_path}"))
    run.start()
    run.fail(ArithmeticError(TEXTS[0]))
    assert status_of(run.path)["error"] == f"ArithmeticError: {TEXTS[0]}"


def test_numbers_of_libraries_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    assert (
        as_json({"a": numpy.float32(0.5), "b": numpy.int64(3), "c": numpy.bool_(True)})
        == '{"a": 0.5, "b": 3, "c": true}'
    )
    assert as_json(numpy.float64("nan")) == "null"
    assert not_finite([1.0, {"x": float("inf")}], "rows") == ["rows[1].x"]
