"""Small files that unpack or parse without end, read by the six commands that read runs: time and memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.small_runs import pick

ROOT = Path(__file__).resolve().parent.parent
SECONDS, MEBIBYTES = 10, 500
_MEASURING = """
import json, resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", *sys.argv[1:]], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""
"""A small process, since the memory of the one that starts a command counts as the command's."""


def bomb(content: bytes, times: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(content) for _ in range(times)) + packer.flush()


def packed(content: bytes, times: int) -> Callable[[Path], None]:
    def make(run: Path) -> None:
        (run / "samples.jsonl").unlink()
        (run / "samples.jsonl.gz").write_bytes(bomb(content, times))

    return make


def plain(name: str, content: Callable[[], bytes]) -> Callable[[Path], None]:
    def make(run: Path) -> None:
        (run / name).write_bytes(content())

    return make


def many_rows(run: Path) -> None:
    line = json.loads((run / "samples.jsonl").read_text().splitlines()[0])
    rows = (json.dumps({**line, "doc_id": number, "ids": [700] * 500}) + "\n" for number in range(60_000))
    (run / "samples.jsonl").write_text("".join(rows)[: 70 << 20])


def long_texts(run: Path) -> None:
    line = json.loads((run / "samples.jsonl").read_text().splitlines()[0])
    text = "1" * 900_000
    rows = (json.dumps({**line, "doc_id": number, "text": text, "raw": text}) + "\n" for number in range(60))
    (run / "samples.jsonl").write_text("".join(rows))


BOMBS: dict[str, Callable[[Path], object]] = {
    "600 MiB of NUL": packed(b"\0" * (1 << 20), 600),
    "600 MiB of line ends": packed(b"\n" * (1 << 20), 600),
    "600 MiB of empty objects": packed(b"{}\n" * 300_000, 600),
    "texts of 1.5 MB": packed(b'{"task": "a", "doc_id": 0, "text": "' + b"x" * 1_500_000 + b'"}\n', 200),
    "lists": packed(b'{"task": "a", "doc_id": 0, "metrics": {"a": [' + b"[]," * 100_000 + b"1]}}\n", 100),
    "a line of 60 MB": plain("samples.jsonl", lambda: b'{"a": "' + b"x" * 60_000_000 + b'"}'),
    "answers, many": many_rows,
    "answers, long": long_texts,
    "lists in results.json": plain("results.json", lambda: b'{"a": [' + b"[]," * 2_600_000 + b"1]}"),
    "100,000 brackets": plain("results.json", lambda: b'{"a": ' + b"[" * 100_000),
    "brackets in config.yaml": plain("config.yaml", lambda: b"a: " + b"[" * 60_000),
    "keys in config.yaml": plain("config.yaml", lambda: b"".join(b"k%d: 1\n" % n for n in range(7_000))[: 64 << 10]),
    "1 GB in status.json": lambda run: os.truncate(run / "status.json", 1 << 30),
    "1 GB in samples.jsonl": lambda run: os.truncate(run / "samples.jsonl", 1 << 30),
}
COMMANDS = ("check", "table", "leaderboard", "compare", "rescore", "trace")


def given(command: str, run: Path, baseline: Path, out: Path) -> Sequence[object]:
    """Arguments with which a command reads the run."""
    if command in ("compare", "rescore"):
        return [run, baseline][: 2 if command == "compare" else 1]
    if command == "trace":
        return [run, f"out={out / 'page.html'}"]
    if command == "leaderboard":
        return [run.parent, f"out={out}"]
    return [run.parent]


def measured(command: str, arguments: Sequence[object]) -> tuple[int, str, float, int]:
    """Exit status, standard error, seconds of processor time and MiB of a command."""
    line = [sys.executable, "-c", _MEASURING, "evaluation", command, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    code, seconds, kibibytes = json.loads(done.stdout)
    return code, done.stderr, seconds, kibibytes >> 10


def try_bomb(name: str, command: str, small_runs: Path, folder: Path) -> None:
    run, baseline = (
        Path(shutil.copytree(pick(small_runs, cache), folder / "results" / pick(small_runs, cache).name))
        for cache in ("dual", "none")
    )
    BOMBS[name](run)
    (folder / "out").mkdir()
    started = time.monotonic()
    code, said, seconds, mebibytes = measured(command, given(command, run, baseline, folder / "out"))
    where = f"{command}, {name}: {seconds:.1f} s ({time.monotonic() - started:.1f} s by the clock), {mebibytes} MiB"
    print(where)
    assert "Traceback" not in said, f"{where}\n{said}"
    assert "unknown command" not in said, where
    assert "No module named" not in said, where
    assert code in (0, 1, 2), where
    assert seconds < SECONDS, where
    assert mebibytes < MEBIBYTES, where


@pytest.mark.slow
def test_a_bomb_ends_soon(small_runs: Path, tmp_path: Path) -> None:
    try_bomb("100,000 brackets", "check", small_runs, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", BOMBS)
def test_every_command_ends_soon(name: str, command: str, small_runs: Path, tmp_path: Path) -> None:
    try_bomb(name, command, small_runs, tmp_path)
