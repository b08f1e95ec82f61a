"""Huge files: a row names the file soon. `test_bombs` measures the commands."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.report.rows import read_rows
from evaluation.storage.find_runs import find_runs
from tests.small_runs import pick

SECONDS = 5  # of the processor


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
    """A large sparse file."""

    def make(run: Path) -> None:
        with (run / name).open("r+b") as file:
            file.truncate(20 << 30)

    return make


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a bomb of zeros": (packed(b"\0", 300), "samples.jsonl.gz"),
    "a bomb of empty lines": (packed(b"\n", 300), "samples.jsonl.gz"),
    "a bomb of questions": (packed(b'{"task": "t", "doc_id": 1}\n', 300), "samples.jsonl.gz"),
    "a long line": (long_line, "samples.jsonl"),
    "endless samples": (sparse("samples.jsonl"), "samples.jsonl"),
    "endless results": (sparse("results.json"), "results.json"),
    "an endless configuration": (sparse("config.yaml"), "config.yaml"),
    "an endless status": (sparse("status.json"), "status.json"),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_names_the_file_soon(results: Path, kind: str) -> None:
    make, name = KINDS[kind]
    run = pick(results, "dual")
    make(run)
    before = time.process_time()
    frame = read_rows(find_runs([run], name_from=results))
    assert time.process_time() - before < SECONDS
    (row,) = frame.to_dict("records")
    assert not row["ranked"]
    assert row["note"].startswith(name)
