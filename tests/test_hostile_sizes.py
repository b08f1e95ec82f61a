"""Run folders that are made to be large: every command ends soon, in little memory, with a line that names the file."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.finding import find_runs
from evaluation.rows import read_rows
from tests.small_runs import pick

SECONDS, MEBIBYTES = 10, 500
_MEASURED = """
import resource, sys
from importlib import import_module
program = import_module(sys.argv[1])
sys.argv[:2] = [sys.argv[1]]
code = program.main()
used = resource.getrusage(resource.RUSAGE_SELF)
print(f"MEASURED {code} {used.ru_utime + used.ru_stime:.1f} {used.ru_maxrss >> 10}", file=sys.stderr)
"""


def packed(unit: bytes, count: int) -> Callable[[Path], None]:
    """Samples that unpack to ``unit`` very often."""

    def make(run: Path) -> None:
        (run / "samples.jsonl").unlink()
        with gzip.open(run / "samples.jsonl.gz", "wb", compresslevel=9) as file:
            for _ in range(count):
                file.write(unit * ((1 << 20) // len(unit)))

    return make


def long_line(run: Path) -> None:
    with (run / "samples.jsonl").open("w") as file:
        file.write('{"task": "t", "doc_id": 0, "raw": "' + "x" * (60 << 20) + '"}\n')


def sparse(name: str) -> Callable[[Path], None]:
    """A file that is large, and takes no room."""

    def make(run: Path) -> None:
        with (run / name).open("r+b") as file:
            file.truncate(20 << 30)

    return make


def many_ids(run: Path) -> None:
    line = json.loads((run / "samples.jsonl").read_text().splitlines()[0])
    with (run / "samples.jsonl").open("w") as file:
        for number in range(150):
            file.write(json.dumps({**line, "doc_id": number, "ids": [7] * 300_000}, separators=(",", ":")) + "\n")


def many_questions(run: Path) -> None:
    line = json.loads((run / "samples.jsonl").read_text().splitlines()[0]) | {"raw": "", "text": "", "doc": {}}
    with (run / "samples.jsonl").open("w") as file:
        for number in range(99_000):
            file.write(json.dumps({**line, "doc_id": number}) + "\n")


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a bomb of zeros": (packed(b"\0", 300), "samples.jsonl.gz"),
    "a bomb of empty lines": (packed(b"\n", 300), "samples.jsonl.gz"),
    "a bomb of questions": (packed(b'{"task": "t", "doc_id": 1}\n', 300), "samples.jsonl.gz"),
    "a long line": (long_line, "samples.jsonl"),
    "endless samples": (sparse("samples.jsonl"), "samples.jsonl"),
    "endless results": (sparse("results.json"), "results.json"),
    "an endless configuration": (sparse("config.yaml"), "config.yaml"),
    "an endless status": (sparse("status.json"), "status.json"),
    "many ids": (many_ids, "samples.jsonl"),
    "many questions": (many_questions, "samples.jsonl"),
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("many")])
def test_a_row_names_the_file_soon(results: Path, kind: str) -> None:
    make, name = KINDS[kind]
    run = pick(results, "dual")
    make(run)
    before = time.process_time()
    frame = read_rows(find_runs([run], name_from=results))
    assert time.process_time() - before < SECONDS / 2
    (row,) = frame.to_dict("records")
    assert not row["ranked"]
    assert row["note"].startswith(name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_command_ends_soon_in_little_memory(results: Path, tmp_path: Path, kind: str) -> None:
    make, name = KINDS[kind]
    run = pick(results, "dual")
    make(run)
    commands = (
        ["evaluation.table", str(results)],
        ["evaluation.leaderboard", str(results), "--out", str(tmp_path / "out")],
        ["evaluation.compare", str(run), str(pick(results, "none"))],
    )
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, *command],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=Path(__file__).resolve().parent.parent,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        measured = next(line for line in done.stderr.splitlines() if line.startswith("MEASURED"))
        _, code, seconds, most = measured.split()
        assert "Traceback" not in done.stderr
        assert int(code) == (2 if command[0] == "evaluation.compare" else 0)
        assert (float(seconds) < SECONDS, int(most) < MEBIBYTES) == (True, True), (command, measured)
        written = (tmp_path / "out" / "leaderboard.csv").read_text() if "--out" in command else ""
        assert name in done.stdout + done.stderr + written
