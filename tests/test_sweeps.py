"""Sweeps that are repeated, interrupted, killed, out of memory, or spread over processes."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from rich.console import Console

from cache_zoo import UsageError
from evaluation.config.command_line import cells, launcher, whole_lists
from evaluation.config.settings import Settings
from evaluation.report.leaderboard import make_leaderboard
from evaluation.run.batching import BatchRunner, Job
from evaluation.run.distributed import Processes
from evaluation.run.evaluate import evaluate_cell
from evaluation.run.folder import InUseError, RunFolder
from evaluation.run.journal import Journal, count_answered
from evaluation.run.provenance import merged
from evaluation.storage.schema import MemoryShortage
from evaluation.sweep.cell import Cell
from evaluation.sweep.progress import Display, duration, labels
from evaluation.sweep.workers import Resources, assign_resources
from generation import Counts
from models import Transformer
from tests import processes

ROOT = Path(__file__).resolve().parent.parent
QUICK = ["model=nano-llada", "dataset=nano-gsm", "dataset.n_shot=1", "generation.gen_length=32"]
QUICK += ["generation.block_length=16", "generation.threshold=0.9"]
TIMED = ["tokens_per_second", "speedup", "speedup_low", "speedup_high", "latency_median", "latency_p90", "date"]

GREEDY = '''
"""Caches that run out of memory, die or fail; files beside this one say which."""
import os
import signal
from pathlib import Path

import torch

from cache_zoo import Cache

HERE = Path(__file__).parent


class Greedy(Cache):
    """Needs a petabyte for more sequences than ``fits``."""

    def __init__(self, fits: int = 2) -> None:
        self.fits = fits

    def rows(self, step):
        if step.ids.shape[0] > self.fits:
            torch.empty(2**50, dtype=torch.uint8)
        return None


class Broken(Cache):
    """Breaks until it is mended."""

    def rows(self, step):
        if not (HERE / "mended").exists():
            raise ArithmeticError("not mended yet")
        return None


class Dying(Cache):
    """Ends its process."""

    def rows(self, step):
        os.kill(os.getpid(), signal.SIGKILL)
'''

Sweep = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the module ``greedy`` above, on the Python path."""
    folder = tmp_path / "classes"
    folder.mkdir()
    (folder / "greedy.py").write_text(GREEDY)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{folder}")
    yield folder
    sys.modules.pop("greedy", None)


def settings(*overrides: str) -> Settings:
    (found,) = cells([*QUICK, *overrides])
    return found


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "eval.py"), *map(str, arguments)]


def environment() -> dict[str, str]:
    path = os.environ.get("PYTHONPATH", str(ROOT))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def run(*arguments: object) -> tuple[int, list[dict[str, Any]], str]:
    """eval.py in a new process: exit status, lines of JSON, standard error."""
    done = processes.run(command(*arguments)[1:], env=environment())
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def status_of(folder: str | Path) -> dict[str, Any]:
    return dict(json.loads((Path(folder) / "status.json").read_text()))


def answers(folder: str | Path) -> list[list[int]]:
    return [json.loads(line)["ids"] for line in (Path(folder) / "samples.jsonl").read_text().splitlines()]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def test_what_is_done_is_not_done_again_unless_forced(tmp_path: Path) -> None:
    sweep = ["-m", "cache=none,dual", "dataset.size=2", f"output_dir={tmp_path}", *QUICK]
    code, lines, _ = run(*sweep)
    assert (code, [line["status"] for line in lines]) == (0, ["done", "done"])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    files = {"config.yaml", "results.json", "samples.jsonl", "status.json"}
    assert {path.name for path in tmp_path.glob("nano*/*")} == files
    assert run(*sweep)[:2] == (code, lines)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    first = settings("cache=none", "dataset.size=2", f"output_dir={tmp_path}", "force=true")
    assert Cell(first).attempt().line["score"] == lines[0]["score"]
    assert (Path(lines[0]["folder"]) / "samples.jsonl").stat().st_mtime_ns > max(before.values())


@pytest.mark.slow
def test_a_failure_is_left_alone_until_it_is_to_be_tried_again(classes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sweep = ["-m", "+cache._target_=greedy.Broken", "dataset.size=1,2", f"output_dir={out}", *QUICK]
    code, lines, err = run(*sweep)
    assert (code, [line["status"] for line in lines]) == (1, ["failed", "failed"])
    assert "ArithmeticError: not mended yet" in lines[0]["reason"]
    assert "(log: " in err
    status = status_of(lines[0]["folder"])
    assert status["error"] == "ArithmeticError: not mended yet"
    assert 'raise ArithmeticError("not mended yet")' in status["traceback"]
    (classes / "mended").touch()
    code, lines, _ = run(*sweep)
    assert (code, {line["status"] for line in lines}) == (1, {"failed"})
    assert lines[0]["reason"].endswith("retry=failed runs it again")
    code, lines, _ = run(*sweep, "retry=failed,oom")
    assert (code, [line["status"] for line in lines]) == (0, ["done", "done"])
    assert not (Path(lines[0]["folder"]) / "answered").exists()


def test_a_batch_that_does_not_fit_is_halved_and_recorded(classes: Path, tmp_path: Path) -> None:
    common = ["+cache._target_=greedy.Greedy", "dataset.size=9", f"output_dir={tmp_path}"]
    summary = evaluate_cell(settings("batch_size=8", *common))
    assert summary is not None
    results = json.loads((Path(summary.folder) / "results.json").read_text())
    # the warm-up of the first batch finds out what fits, before anything is timed
    assert results["efficiency"]["memory_shortages"] == [{"size": 8, "then": 4}, {"size": 4, "then": 2}]
    samples = [json.loads(line) for line in (Path(summary.folder) / "samples.jsonl").read_text().splitlines()]
    assert [sample["batch"] for sample in samples] == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert {sample["work"]["sequences"] for sample in samples} == {1, 2}
    alone = evaluate_cell(settings("batch_size=1", *common))
    assert alone is not None
    assert answers(summary.folder) == answers(alone.folder)


@pytest.mark.slow
def test_a_single_prompt_that_does_not_fit_is_out_of_memory_and_the_sweep_continues(
    classes: Path, tmp_path: Path
) -> None:
    sweep = ["-m", "+cache._target_=greedy.Greedy", "+cache.fits=0,1", "dataset.size=2", "batch_size=2"]
    code, lines, _ = run(*sweep, f"output_dir={tmp_path / 'out'}", *QUICK)
    assert (code, [line["status"] for line in lines]) == (1, ["oom", "done"])
    assert "out of memory with a single prompt" in lines[0]["reason"]
    assert status_of(lines[0]["folder"])["status"] == "oom"


@pytest.mark.slow
def test_a_process_that_dies_ends_its_cell_only(classes: Path, tmp_path: Path) -> None:
    sweep = ["-m", "+cache._target_=greedy.Dying,greedy.Greedy", "dataset.size=1", f"output_dir={tmp_path / 'out'}"]
    code, lines, _ = run(*sweep, *QUICK)
    assert (code, [line["status"] for line in lines]) == (1, ["failed", "done"])
    assert "the worker died by signal SIGKILL" in lines[0]["reason"]


def test_a_cell_that_makes_no_sense_is_a_folder_with_the_reason(tmp_path: Path) -> None:
    outcome = Cell(settings("cache=prefix", "generation.block_length=32", f"output_dir={tmp_path}")).attempt()
    assert (outcome.line["status"], outcome.code) == ("skipped", 0)
    assert "needs blocks" in status_of(outcome.line["folder"])["reason"]
    lost = Cell(settings("dataset.path=/no/such/place", f"output_dir={tmp_path}")).attempt()
    assert (lost.line["status"], lost.code) == ("skipped", 2)
    frame = make_leaderboard([tmp_path], tmp_path)
    assert list(frame["status"]) == ["skipped", "skipped"]
    assert not frame["ranked"].any()


def test_a_run_that_another_process_works_on_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.run.folder.LOCK_TIMEOUT_SECONDS", 0.1)
    mine = settings("dataset.size=1", f"output_dir={tmp_path}")
    run = RunFolder.of(mine)
    run.start()
    try:
        assert RunFolder.of(mine).in_use
        assert "pid" in run.status
        with pytest.raises(InUseError, match=f"is in use by process {os.getpid()} on "):
            evaluate_cell(mine)
        assert (Cell(mine).attempt().line["status"], Cell(mine).attempt().code) == ("running", 0)
    finally:
        run.fail(KeyboardInterrupt())
    assert not RunFolder.of(mine).in_use
    assert run.status["status"] == "partial"


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupt_leaves_a_partial_run_that_resumes(tmp_path: Path, number: signal.Signals) -> None:
    sweep = ["-m", "cache=none", "dataset.size=40", f"output_dir={tmp_path}", *QUICK]
    process = processes.Process(command(*sweep)[1:], env=environment())
    wait_for(lambda: any(b"\n" in file.read_bytes() for file in tmp_path.glob("*/answered/*.jsonl")))
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    (folder,) = tmp_path.glob("nano*")
    status = status_of(folder)
    assert status["status"] == "partial"
    assert 0 < status["answered"] < status["total"] == 40
    frame = make_leaderboard([tmp_path], tmp_path)
    assert frame["note"][0] == f"interrupted after {status['answered']} of 40 questions"
    code, lines, _ = run(*sweep)
    assert (code, lines[0]["n"]) == (0, 40)
    provenance = json.loads((folder / "results.json").read_text())["provenance"]
    assert len(provenance["sessions"]) == 2
    assert "several" not in provenance["machine"]
    if number is signal.SIGINT:
        assert "the same command resumes" in process.err


@pytest.mark.slow
@pytest.mark.parametrize("number", [3, 7])
def test_killed_at_any_moment_a_sweep_ends_as_if_nothing_had_been(tmp_path: Path, number: int) -> None:
    grid = ["-m", "cache=none,dual,d2cache", "generation.threshold=null,0.9", "dataset.size=6", "batch_size=2"]
    sweep, whole, killed = [*grid, "jobs=2", *QUICK[:-1]], tmp_path / "whole", tmp_path / "killed"
    started = time.monotonic()
    code, lines, err = run(*sweep, f"output_dir={whole}")
    seconds = time.monotonic() - started
    assert (code, len(lines)) == (0, 6), err
    draw, kills = random.Random(number), 0
    while kills < number:
        arguments = command(*sweep, f"output_dir={killed}")[1:]
        process = processes.Process(arguments, env=environment(), start_new_session=True)
        try:
            process.wait(timeout=draw.uniform(0.1, 0.9) * seconds)
            shutil.rmtree(killed)  # it came to its end: another one is killed instead
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        if any(killed.glob("*/status.json")):
            make_leaderboard([killed], killed)  # can be read at any moment
    code, lines, err = run(*sweep, f"output_dir={killed}")
    assert (code, {line["status"] for line in lines}) == (0, {"done"}), err
    frames = [make_leaderboard([one], one).drop(columns=TIMED).sort_values("folder") for one in (whole, killed)]
    pd.testing.assert_frame_equal(*[frame.reset_index(drop=True) for frame in frames])
    for folder in whole.glob("nano*"):
        again = killed / folder.name
        assert answers(again) == answers(folder)
        assert {path.name for path in again.iterdir()} == {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_submitit_runs_the_same_cells_side_by_side(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="hydra-submitit-launcher is not installed")
    sweep = ["-m", "cache=none,dual", "generation.threshold=null,0.9", "dataset.size=2", *QUICK[:-1]]
    there = ["hydra/launcher=submitit_local", "hydra.sweeper.max_batch_size=2", "hydra.launcher.timeout_min=5"]
    code, lines, err = run(*sweep, *there, f"output_dir={tmp_path / 'submitit'}")
    assert (code, len(lines)) == (0, 4), err
    _, expected, _ = run(*sweep, f"output_dir={tmp_path / 'here'}")
    named = [(line["status"], line["cache"], line["score"], line["nfe"]) for line in lines]
    assert named == [(line["status"], line["cache"], line["score"], line["nfe"]) for line in expected]
    assert json.loads((Path(lines[0]["folder"]) / "results.json").read_text())["config"]["seed"] == 1234


@dataclass(frozen=True)
class Number:
    """A request, and its own answer."""

    number: int

    @property
    def key(self) -> list[Any]:
        return ["t", self.number]


def job(asked: list[list[int]], limit: int = 99) -> Job[Number, Number]:
    """Answers numbers, at most ``limit`` of them at a time."""

    def answer(_: Transformer, piece: list[Number]) -> tuple[list[Number], Counts]:
        asked.append([one.number for one in piece])
        if len(piece) > limit:
            torch.empty(2**50, dtype=torch.uint8)
        return piece, Counts(forwards=1)

    return Job("t", Number, answer, lambda *_: None)


def test_the_journal_brings_back_whole_batches_whatever_the_number_of_processes(
    tmp_path: Path, tiny_models: dict[str, Transformer]
) -> None:
    model, asked = tiny_models["llada"], list[list[int]]()
    questions = [Number(number) for number in range(7)]
    for rank in range(2):  # two processes, of which the second is killed within its second batch
        journal = Journal(tmp_path, Processes(rank, 2))
        journal.open({"date": "1", "rank": rank})
        runner = BatchRunner(2, Processes(), journal)
        runner.run_share(job(asked), [questions[4 * rank : 4 * rank + 2]], lambda: model)
    own = tmp_path / "1-of-2.jsonl"
    own.write_bytes(own.read_bytes() + b'{"kind": "t", "questions": [["t", 2], [')
    assert count_answered(tmp_path) == 4
    asked.clear()
    journal = Journal(tmp_path)
    journal.open({"date": "2", "rank": 0})
    runner = BatchRunner(2, Processes(), journal)
    found = runner.run(job(asked), questions, lambda: model)
    assert asked == [[2, 3], [6]]
    assert found == list(zip(questions, [0, 0, 1, 1, 2, 2, 3], strict=True))
    assert [batch.size for batch in runner.batches] == [2, 2, 2, 1]
    assert [(one["date"], one["rank"]) for one in runner.sessions] == [("1", 0), ("2", 0), ("1", 1)]
    progress = runner.progress()
    assert (progress["answered"], progress["total"], count_answered(tmp_path)) == (7, 7, 7)
    other = Journal(tmp_path)
    other.open({})
    assert other.find("t", [["t", 0], ["t", 5]]) is None
    assert other.find("t", [["t", 2], ["t", 3]]) is not None
    fresh = Journal(tmp_path, fresh=True)
    fresh.open({})
    assert fresh.find("t", [["t", 2], ["t", 3]]) is None


def test_a_journal_cut_within_a_line_continues_after_the_last_whole_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open({})
    journal.add("t", [["t", 0]], {"answers": [{}]})
    file = tmp_path / "0-of-1.jsonl"
    file.write_bytes(file.read_bytes() + b'{"kind": "t", "quest')
    again = Journal(tmp_path)
    again.open({})
    again.add("t", [["t", 1]], {"answers": [{}]})
    assert count_answered(tmp_path) == 2


def test_the_size_that_fits_is_found_once(tiny_models: dict[str, Transformer]) -> None:
    asked: list[list[int]] = []
    numbers = [Number(number) for number in range(10)]
    runner = BatchRunner(8, Processes())
    found = runner.run(job(asked, limit=3), numbers, lambda: tiny_models["llada"])
    assert [len(piece) for piece in asked] == [8, 4, 2, 2, 2, 2, 2]
    assert runner.shortages == [MemoryShortage(size=8, then=4), MemoryShortage(size=4, then=2)]
    assert found == list(zip(numbers, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4], strict=True))


def test_where_several_sessions_come_from() -> None:
    here = {"machine": {"processor": "a"}, "device": "cpu", "dtype": "float32", "versions": {"torch": "2"}}
    one = {**here, "date": "1", "git": {"commit": "c", "dirty": False}, "rank": 0}
    alone = merged([one])
    assert "sessions" not in alone
    assert alone["git"] == {"commit": "c", "dirty": False}
    second = merged([one, {**one, "rank": 1}])
    assert "sessions" not in second
    moved = merged([one, {**one, "date": "2", "machine": {"processor": "b"}, "git": {"commit": "d", "dirty": False}}])
    assert [session["date"] for session in moved["sessions"]] == ["1", "2"]
    assert moved["machine"] == {"processor": "b", "several": True}
    assert moved["git"] == {"commit": "d", "dirty": False, "several": True}


def test_lists_of_a_key_are_no_sweep() -> None:
    given = ["retry=failed,oom", "retry=oom", "trace=0,3", "trace=true", "cache=none,dual", "retry=[oom]"]
    expected = ["retry=[failed,oom]", "retry=[oom]", "trace=[0,3]", "trace=true", "cache=none,dual", "retry=[oom]"]
    assert whole_lists(given) == expected
    assert settings("retry=failed,oom", "trace=2").retry == ["failed", "oom"]
    assert (settings("trace=true").trace, settings("trace=0,3").trace, settings().trace) == ([0], [0, 3], [])
    assert launcher(["hydra/launcher=submitit_local"]) == "submitit_local"
    assert launcher(["hydra/launcher=basic"]) is launcher([]) is None
    for bad, message in {
        "retry=fialed": "unknown status 'fialed' in retry: did you mean 'failed'",
        "jobs=0": "jobs must be at least 1",
        "trace=-1": "trace must be true, false, a row of the dataset or a list of rows, not -1",
        "force=2": "force must be true or false, not 2",
    }.items():
        with pytest.raises(UsageError, match=message):
            settings(bad)


def test_orders_are_no_part_of_the_configuration() -> None:
    plain, ordered = settings(), settings("force=true", "retry=oom", "jobs=2", "trace=1")
    assert (plain.run_name, plain.config) == (ordered.run_name, ordered.config)


def test_each_job_has_a_share_of_the_machine() -> None:
    assert assign_resources(1, ["cpu"]) == [Resources()]
    there = len(os.sched_getaffinity(0))
    shares = [one.cores for one in assign_resources(there, ["cpu"])]
    assert sorted(core for share in shares for core in share) == sorted(os.sched_getaffinity(0))
    with pytest.raises(UsageError, match=f"jobs={there + 1} needs {there + 1} cores, {there} are available"):
        assign_resources(there + 1, ["cpu"])
    with pytest.raises(UsageError, match=r"give model\.device=cuda, not cuda:1"):
        assign_resources(2, ["cuda:1"])


@pytest.mark.slow
def test_a_worker_imports_no_reports() -> None:
    program = "import sys, evaluation.run.evaluate, evaluation.sweep.cell; print(*sys.modules)"
    done = processes.run_cold(["-c", program])
    imported = set(done.stdout.split())
    assert "evaluation.run.evaluate" in imported
    assert not {"scipy", "statsmodels", "evaluation.report", "evaluation.trace"} & imported


def test_a_run_draws_the_rows_that_are_to_be_traced(tmp_path: Path) -> None:
    plain = settings("dataset.size=2", f"output_dir={tmp_path}")
    folder = Path(Cell(plain).attempt().line["folder"])
    samples = (folder / "samples.jsonl").stat().st_mtime_ns
    traced = settings("dataset.size=2", f"output_dir={tmp_path}", "trace=0,1")
    assert Cell(traced).attempt() == Cell(plain).attempt()
    assert {page.name for page in folder.glob("*.html")} == {"trace_0.html", "trace_1.html"}
    assert (folder / "samples.jsonl").stat().st_mtime_ns == samples
    with pytest.raises(UsageError, match=r"trace names row \[2\] and dataset.size=2: rows are 0 to 1"):
        settings("dataset.size=2", "trace=1,2")


def test_lines_of_json_stay_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = Cell(settings(f"output_dir={tmp_path}"))
    with Display([cell], Console(force_terminal=True, file=io.StringIO())):
        print("{}")
    assert capsys.readouterr().out == "{}\n"


def test_the_display_tells_what_ended_and_what_is_left(tmp_path: Path) -> None:
    sweep = ["cache=none,dllm", "generation.threshold=null,0.9", f"output_dir={tmp_path}", *QUICK[:-1]]
    found = [Cell(one) for one in cells(sweep, sweep=True)]
    assert labels(found)[1] == "nano-llada none vanilla nano-gsm threshold=0.9"
    screen = io.StringIO()
    console = Console(width=120, record=True, force_terminal=True, file=screen)
    run = found[1].run
    run.start(lambda: {"answered": 3, "total": 8, "tokens_per_second": 12.5})
    try:
        with Display(found, console) as display:
            display.refresh(found[:1])
            display.ended(found[0], {"status": "done", "score": 0.5, "n": 8, "tokens_per_second": 4.0})
            display.ended(found[2], {"status": "oom", "reason": "too large"})
            display.refresh(found[1:2])
    finally:
        run.fail(KeyboardInterrupt())
    shown = screen.getvalue()
    assert "[1/4] done    nano-llada none vanilla nano-gsm threshold=null: 50.0 % of 8, 4.0 tokens/s" in shown
    assert "[2/4] oom     nano-llada dllm vanilla nano-gsm threshold=null: too large (log: " in shown
    assert "1 done, 1 running, 1 oom of 4 cells" in shown
    assert "3/8" in shown
    assert "12.5 tokens/s" in shown
    assert [duration(seconds) for seconds in (5, 125, 9000)] == ["5 s", "2 min", "2.5 h"]


def test_what_a_launcher_left_is_read_from_the_folders(tmp_path: Path) -> None:
    cell = Cell(settings(f"output_dir={tmp_path}"))
    cell.run.set_status("pending")
    outcome = cell.result()
    assert (outcome.line["status"], outcome.code) == ("pending", 1)
    assert outcome.line["reason"] == "it is pending"
