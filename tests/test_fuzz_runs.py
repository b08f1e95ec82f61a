"""Mutated run folders through the six commands that read them: no traceback, no hang, no memory, no file elsewhere."""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from random import Random
from typing import Any

import pytest

from evaluation.report import check, compare, leaderboard, rescore, table
from evaluation.trace import __main__ as trace
from tests.run_mutations import mutate
from tests.small_runs import pick

SECONDS = 10
MEBIBYTES = 128
"""That a call may take beside the libraries, which the process has loaded: 500 in all."""
QUICK, ALL, PARTS = 8, 2_000, 4
TOGETHER = 20
"""Runs in a folder of several, which one bad run must not end."""
_WATCHED = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink")
_PROGRAMS = ("git", "uname")
"""Which say where a trace was recorded."""
_TEMPORARY = os.path.join(tempfile.gettempdir(), "torchinductor")


class Watch:
    """Paths that this process writes; one hook, since audit hooks cannot be removed."""

    def __init__(self) -> None:
        self.on = False
        self.allowed: tuple[str, ...] = ()
        self.found: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "import" and str(arguments[0]).split(".")[0] == "evil":
            self.found.append(f"import of {arguments[0]}")
        elif event in ("subprocess.Popen", "os.system", "os.exec", "socket.connect"):
            if event != "subprocess.Popen" or arguments[0] not in _PROGRAMS:
                self.found.append(f"{event} {arguments}")
        elif event in _WATCHED:
            paths = [arguments[0]] if event == "open" else arguments[:2]
            if event == "open" and not self._writes(arguments):
                return
            for path in paths:
                if isinstance(path, str | bytes | os.PathLike) and not self._may(os.fsdecode(path)):
                    self.found.append(f"{event} {path!r}")

    def _writes(self, arguments: tuple[Any, ...]) -> bool:
        _, mode, flags = arguments
        if isinstance(mode, str):
            return any(letter in mode for letter in "wax+")
        return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))

    def _may(self, path: str) -> bool:
        whole = os.path.abspath(path)
        return whole == "/dev/null" or whole.startswith((*self.allowed, _TEMPORARY))


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@contextmanager
def limited() -> Iterator[None]:
    """An exception after `SECONDS` of processor time, or ten times as many where it waits."""

    def late(*_: object) -> None:
        raise TimeoutError(f"it took more than {SECONDS} s")

    clocks = {signal.SIGPROF: (signal.ITIMER_PROF, SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, 10 * SECONDS)}
    before = {number: signal.signal(number, late) for number in clocks}
    for timer, seconds in clocks.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for number, (timer, _) in clocks.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def memory(kind: str) -> int:
    """MiB of this process: ``VmRSS`` now, ``VmHWM`` at most since it was last asked."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = next(line for line in lines if line.startswith(f"{kind}:"))
    Path("/proc/self/clear_refs").write_text("5")
    return int(found.split()[1]) >> 10


def listed(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for parent, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(parent, name)
            about = os.lstat(path)
            found[path] = (about.st_size, about.st_mtime_ns)
    return found


def try_some(numbers: range, sources: tuple[Path, Path], here: Path, watch: Watch) -> None:
    """Mutate a run for each number, and read all of them with every command."""
    results, outside, board, page = (here / name for name in ("results", "outside", "board", "page.html"))
    commands: list[tuple[Any, list[object], tuple[Path, ...]]] = []
    for number in numbers:
        random, place, away = Random(number), results / str(number), outside / str(number)
        run, baseline = (Path(shutil.copytree(source, place / source.name)) for source in sources)
        away.mkdir(parents=True)
        (away / "sentinel").write_text("untouched")
        mutate(random, random.choice((run, run, run, baseline)), away)
        there = [path for path in sorted(place.iterdir()) if path.name != baseline.name]
        given = run if run.is_dir() or not there else there[0]
        written = [folder / "rescored.json" for folder in (given, baseline)]
        commands += [
            (table, [place], ()),
            (compare, [given, baseline], ()),
            (rescore, [given, baseline], (*written,)),
            (trace, [given, "sample=1", f"out={page}"], (page,)),
        ]
    call_watched(check, [results], (), here, watch)
    call_watched(leaderboard, [results, f"out={board}"], (board,), here, watch)
    check_outputs(board, f"seeds {numbers}")
    for command in commands:
        call_watched(*command, here, watch)
    for number in numbers:
        assert (outside / str(number) / "sentinel").read_text() == "untouched", f"seed {number}"


def call_watched(module: Any, arguments: list[object], outputs: tuple[Path, ...], here: Path, watch: Watch) -> None:
    """Call a command: it must end in time with an exit status of a command and write only ``outputs``."""
    before, resident = listed(here), memory("VmRSS")
    out, err, started, code, failure = io.StringIO(), io.StringIO(), time.process_time(), None, ""
    sys.argv = [module.__name__, *map(str, arguments)]
    watch.found = []
    watch.allowed = tuple(str(path.with_name(f"{dots}{path.name}")) for path in outputs for dots in ("", ".", ".."))
    try:
        with redirect_stdout(out), redirect_stderr(err), limited():
            watch.on = True
            code = module.main()
    except SystemExit as error:
        code = error.code
    except BaseException:
        failure = traceback.format_exc()
    finally:
        watch.on = False
    seconds, taken = time.process_time() - started, memory("VmHWM") - resident
    where = f"{module.__name__} {arguments}"
    assert not failure, f"{where}\n{failure}"
    assert code in (0, 1, 2), f"{where}: exit status {code}"
    assert seconds < SECONDS, f"{where}: {seconds} s"
    assert taken < MEBIBYTES, f"{where}: {taken} MiB"
    assert not watch.found, f"{where}: {watch.found}"
    said = out.getvalue() + err.getvalue()
    assert "Traceback" not in said, f"{where}\n{said}"
    odd = {letter for letter in said if not letter.isprintable() and letter not in "\r\n"}
    assert not odd, f"{where}: {odd} in {said!r}"
    after = listed(here)
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    assert all(path.startswith(watch.allowed) for path in changed), f"{where}: {changed}"


def check_outputs(board: Path, where: str) -> None:
    """The written files hold inert text."""
    for path in board.glob("leaderboard.*"):
        text = path.read_text(encoding="utf-8")
        odd = {one for one in text if not one.isprintable() and one not in "\n\t"}
        assert not odd, f"{where}: {odd} in {path}"
        assert path.suffix == ".csv" or "<script>alert(1)" not in text, f"{where}: {path}"
        assert path.suffix != ".md" or "<img" not in text, f"{where}: {path}"
        if path.suffix == ".csv":
            cells = [cell for line in csv.reader(io.StringIO(text)) for cell in line]
            formulas = [cell for cell in cells if cell.startswith(("=", "@", "+"))]
            assert not formulas, f"{where}: {formulas}"


def try_all(numbers: range, small_runs: Path, folder: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    cwd = folder / "cwd"
    cwd.mkdir()
    (cwd / "evil.py").write_text(f"open({str(folder / 'marker')!r}, 'w')\n")
    monkeypatch.chdir(cwd)
    monkeypatch.syspath_prepend(str(cwd))
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr("cache_zoo.registry.entry_points", cache(entry_points))  # they are read again for every name
    sources = pick(small_runs, "dual"), pick(small_runs, "none")
    for first in numbers[::TOGETHER]:
        here = folder / str(first)
        here.mkdir()
        try_some(range(first, min(first + TOGETHER, numbers.stop)), sources, here, watch)
        shutil.rmtree(here)
    assert not (folder / "marker").exists()
    assert [path.name for path in cwd.iterdir()] == ["evil.py"]


def test_a_few_mutated_run_folders(
    small_runs: Path, tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_all(range(QUICK), small_runs, tmp_path, watch, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_two_thousand_mutated_run_folders(
    part: int, small_runs: Path, tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = ALL // PARTS
    try_all(range(QUICK + part * each, QUICK + (part + 1) * each), small_runs, tmp_path, watch, monkeypatch)
