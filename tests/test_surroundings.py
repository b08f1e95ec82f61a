"""Runs in bad surroundings: damaged journals and folders, disks without room, streams that take nothing, odd texts."""

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
from evaluation.answering import _known
from evaluation.attempt import attempt
from evaluation.cell import damage_of, evaluate_cell, run_of, summary_of
from evaluation.journal import Journal, count_answered
from evaluation.overrides import cells
from evaluation.place import require_place
from evaluation.ranks import Ranks
from evaluation.running import InUseError, Run
from evaluation.runs import as_json, not_finite, write_status, write_text
from evaluation.settings import Settings
from tests.small_runs import CONFIGS
from tests.test_sweeps import QUICK, ROOT, answers, command, environment, settings, status_of


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
    with pytest.warns(RuntimeWarning, match=r"0-of-1\.jsonl, line 2 is damaged; what it held is answered again"):
        journal.open({"date": "2"})
    found = [journal.find("t", [["t", number]]) for number in range(3)]
    assert [entry is not None for entry in found] == [True, False, True]
    assert found[2] is not None
    assert found[2]["answers"] == [{"ids": [2], "value": -1 / 3}]
    journal.add("t", [["t", 1]], {"answers": [{}]})
    assert count_answered(tmp_path) == 3
    Journal(tmp_path).open({})  # the file is mended: no warning


def test_what_is_no_file_in_the_journal_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "0-of-1.jsonl").mkdir()
    os.mkfifo(tmp_path / "1-of-2.jsonl")
    (tmp_path / "2-of-2.jsonl").symlink_to("nowhere")
    journal = Journal(tmp_path)
    with pytest.warns(RuntimeWarning, match="is no plain file"):
        journal.open({})
    journal.add("t", [["t", 0]], {"answers": [{}]})
    assert count_answered(tmp_path) == 1


def test_a_batch_of_another_version_is_answered_again(tmp_path: Path) -> None:
    journal_with(tmp_path, 1)
    journal = Journal(tmp_path)
    journal.open({})
    with pytest.warns(RuntimeWarning, match="another version of the code"):
        assert _known(journal, "t", [["t", 0]]) is None


@pytest.mark.parametrize(
    "given", [{"RANK": "x"}, {"WORLD_SIZE": "0"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "-1"}]
)
def test_variables_of_a_launcher_that_make_no_sense(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UsageError, match="a launcher's variables"):
        Ranks.from_launcher()


def test_a_run_goes_on_behind_a_damaged_journal(tmp_path: Path) -> None:
    cell = settings("dataset.size=3", f"output_dir={tmp_path}")
    whole = evaluate_cell(cell)
    assert whole is not None
    expected = answers(whole["folder"])
    run = interrupted(cell)
    file = run.folder / "answered" / "0-of-1.jsonl"
    lines = file.read_bytes().splitlines()
    lines[0] = b"\0" * 50
    file.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.warns(RuntimeWarning, match="line 1 is damaged"):
        evaluate_cell(cell)
    assert answers(whole["folder"]) == expected


def interrupted(cell: Settings) -> Run:
    """The folder of a cell that was ended when all was answered."""
    run = run_of(cell)
    finish = Run.finish

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    Run.finish = stop  # type: ignore[method-assign]
    try:
        with pytest.raises(KeyboardInterrupt):
            evaluate_cell(cell)
    finally:
        Run.finish = finish  # type: ignore[method-assign]
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
    return cell, run_of(cell).folder


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b"\0" * 99, b"[]", b"{}", b'{"summary": null}', b'{"summary": {"status": "done"}}', b"[" * 99999],
)
def test_a_run_that_lost_its_results_is_run_again(finished: Path, tmp_path: Path, content: bytes | None) -> None:
    cell, folder = copied(finished, tmp_path)
    results = folder / "results.json"
    whole = json.loads(results.read_text())["summary"]
    results.unlink() if content is None else results.write_bytes(content)
    assert "results.json" in str(damage_of(run_of(cell)))
    outcome = attempt(cell)
    assert (outcome.code, outcome.line["status"], outcome.line["score"]) == (0, "done", whole["score"])
    assert json.loads(results.read_text())["summary"]["n"] == 1


def test_a_run_without_its_samples_is_not_done(finished: Path, tmp_path: Path) -> None:
    cell, folder = copied(finished, tmp_path)
    (folder / "samples.jsonl").rename(folder / "away")
    assert summary_of(run_of(cell)) is None
    shutil.copy(folder / "away", folder / "samples.jsonl.gz")  # as a submission packs them
    assert summary_of(run_of(cell)) is not None


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 99, b"{", b"[]", b'{"status": null}', b'{"status": ["done"]}', b'{"status": "whatever"}']
)
def test_a_status_that_says_nothing_is_none(finished: Path, tmp_path: Path, content: bytes) -> None:
    cell, folder = copied(finished, tmp_path)
    (folder / "status.json").write_bytes(content)
    for name in ("results.json", "samples.jsonl", "config.yaml"):
        (folder / name).unlink()
    assert attempt(cell).line["status"] == "done"


def test_the_status_of_a_dead_process_is_in_nobodys_way(finished: Path, tmp_path: Path) -> None:
    cell, folder = copied(finished, tmp_path)
    write_status(folder / "status.json", "running", pid=1, host="elsewhere", heartbeat="2020-01-01")
    assert attempt(cell).line["status"] == "done"


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
    with pytest.raises(UsageError, match=f"{name} is no (folder|plain file); delete it"):
        evaluate_cell(cell)
    outcome = attempt(cell)
    assert (outcome.code, outcome.line["status"]) == (2, "skipped")
    assert "delete it" in outcome.line["reason"]


@pytest.mark.parametrize("where", ["folder", ".locks", ".locks/lock"])
def test_a_file_where_a_folder_belongs_is_one_line(tmp_path: Path, where: str) -> None:
    cell = settings("dataset.size=1", f"output_dir={tmp_path}")
    folder = run_of(cell).folder
    if where == "folder":
        folder.touch()
    elif where == ".locks":
        (tmp_path / ".locks").touch()
    else:
        (tmp_path / ".locks" / f"{folder.name}.lock").mkdir(parents=True)
    with pytest.raises(UsageError, match="delete it"):
        evaluate_cell(cell)
    assert attempt(cell).code == 2


def test_a_folder_under_the_name_of_another_run_is_not_taken_for_it(finished: Path, tmp_path: Path) -> None:
    _, folder = copied(finished, tmp_path)
    other = settings("dataset.size=1", "cache=dual", f"output_dir={tmp_path / 'out'}")
    folder.rename(run_of(other).folder)
    with pytest.raises(UsageError, match=r"holds another run, as its config\.yaml says"):
        evaluate_cell(other)
    outcome = attempt(other)
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
    """As in containers on a shared disk, whose processes have the same number."""
    program = (
        "import os, sys; os.getpid = lambda: 7\n"
        "from pathlib import Path; from evaluation.runs import write_text\n"
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

    monkeypatch.setattr("evaluation.running._PATIENCE", 0.1)
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UsageError, match="can't be locked"):
        run_of(settings(f"output_dir={tmp_path}")).start()


def test_a_lock_without_a_status_is_of_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.running._PATIENCE", 0.1)
    cell = settings("dataset.size=1", f"output_dir={tmp_path}")
    run = run_of(cell)
    run.start()
    try:
        (run.folder / "status.json").unlink()
        with pytest.raises(InUseError, match="is being worked on by another process"):
            evaluate_cell(cell)
    finally:
        run.fail(KeyboardInterrupt())


TEXTS = ["half \ud83d a surrogate", "\x1b[31m\x00\x7f\x9b", "\u2028\u202e<script>", "=cmd|' /C calc'!A0"]


def test_no_text_or_number_keeps_a_run_from_being_written(tmp_path: Path) -> None:
    run = run_of(settings(f"output_dir={tmp_path}"))
    run.start()
    scores = {"nan": float("nan"), "inf": [1.0, float("-inf")], ("a", "tuple"): {1, 2}, 5: None}
    with pytest.warns(RuntimeWarning, match=r"not finite, so null: summary\.score\.nan, summary\.score\.inf\[1\]"):
        run.finish({"summary": {"texts": TEXTS, "score": scores}}, [{"raw": text, "outcome": text} for text in TEXTS])
    text = (run.folder / "results.json").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert found["summary"]["texts"] == TEXTS
    assert found["summary"]["score"] == {"nan": None, "inf": [1.0, None], "('a', 'tuple')": "{1, 2}", "5": None}
    assert found["not_finite"] == ["summary.score.nan", "summary.score.inf[1]"]
    lines = (run.folder / "samples.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line)["raw"] for line in lines if line] == TEXTS


def test_an_error_with_any_text_is_recorded(tmp_path: Path) -> None:
    run = run_of(settings(f"output_dir={tmp_path}"))
    run.start()
    run.fail(ArithmeticError(TEXTS[0]))
    assert status_of(run.folder)["error"] == f"ArithmeticError: {TEXTS[0]}"


def test_numbers_of_libraries_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    assert (
        as_json({"a": numpy.float32(0.5), "b": numpy.int64(3), "c": numpy.bool_(True)})
        == '{"a": 0.5, "b": 3, "c": true}'
    )
    assert as_json(numpy.float64("nan")) == "null"
    assert not_finite([1.0, {"x": float("inf")}], "rows") == ["rows[1].x"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "output_dir must not be empty"),
        ("'  '", "output_dir must not be empty"),
        ("/dev/null", "/dev/null is no folder"),
        ("/dev/null/below", "/dev/null is no folder"),
        ("{tmp}/file", "file is no folder; delete it or give another"),
        ("{tmp}/file/a/b", "file is no folder; delete it or give another"),
        ("{tmp}/dangling", "is a link to nothing"),
        ("{tmp}/" + "x" * 300, "output_dir is longer than a path can be"),
        ("/proc/new", "output_dir /proc/new can't be written to"),
        ("~nobody-of-that-name/x", "names the home of a user that is not known"),
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
    sweep = cells(CONFIGS, "eval", ["output_dir=~/a,~/b,c"], sweep=True)
    assert [cell.output_dir for cell in sweep] == [str(tmp_path / "a"), str(tmp_path / "b"), "c"]


def test_a_place_is_tried_without_a_trace(tmp_path: Path) -> None:
    require_place(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
@pytest.mark.parametrize("where", ["evaluation.journal.os.fsync", "evaluation.runs.os.replace"])
def test_a_disk_in_the_way_leaves_a_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, where: str
) -> None:
    cell = settings("dataset.size=2", f"output_dir={tmp_path}")
    calls = []

    def refuse(*_: Any) -> None:
        calls.append(1)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(where, refuse)
        outcome = attempt(cell)
    assert calls
    assert (outcome.code, outcome.line["status"]) == (1, "partial")
    assert os.strerror(number) in outcome.line["reason"]
    assert attempt(cell).line["status"] == "done"  # without retry=


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


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{python} eval.py --help | head -1 > /dev/null; exit ${PIPESTATUS[0]}", (0, "")),
        ("{python} eval.py --help >&-", (0, "")),
        (
            "{python} eval.py --help > /dev/full",
            (1, "error: standard output can't be written: No space left on device\n"),
        ),
        ("{python} -m generation --help | head -1 > /dev/null; exit ${PIPESTATUS[0]}", (0, "")),
        ("{python} -m cache_zoo list | true; exit ${PIPESTATUS[0]}", (0, "")),
        (
            "{python} -m cache_zoo list > /dev/full",
            (1, "error: standard output can't be written: No space left on device\n"),
        ),
        ("{python} eval.py modle=x 2>&-", (2, "")),
    ],
)
def test_a_reader_that_leaves_is_no_error(line: str, expected: tuple[int, str], tmp_path: Path) -> None:
    assert shell(line, tmp_path) == expected
