"""Data files: columns that no task reads may hold anything; other faults are one error with file and line."""

from __future__ import annotations

import gzip
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cache_zoo import UsageError
from evaluation.config.settings import DatasetSettings
from evaluation.tasks.datasets import as_dataset
from evaluation.tasks.jsonl import LIMITS, read_rows, read_splits
from evaluation.tasks.loading import load_task
from tests.good_rows import GOOD

UNREAD: list[list[Any]] = [
    [1, "2b"],
    [None, 1.5],
    [True, 1],
    [[1], "a"],
    [[1, "a"], [{}]],
    [{"a": 1}, {"a": [2]}],
    [{"a": 1}, 3],
    [10**30, 1],
    [2**63, -1],
    [1.5, 2**60 + 1],
    [[], {}],
    ["\ud800", "b"],
    [{"a": "\ud800"}, 1],
    ["a\0b", None],
    [[[[[[[1]]]]]], [[2]]],
    [json.loads("[" * 400 + "]" * 400), 1],
]


@pytest.mark.parametrize("values", UNREAD, ids=[ascii(values)[:40] for values in UNREAD])
@pytest.mark.parametrize("name", ["gsm8k", "humaneval", "mbpp"])
def test_columns_that_no_task_reads_may_hold_anything(name: str, values: list[Any], tmp_path: Path) -> None:
    lines = [json.dumps({"unread": value, **GOOD[name], "more": value}) for value in values]
    (tmp_path / "test.jsonl").write_text("\n".join([json.dumps(GOOD[name]), *lines]) + "\n")
    (task,) = load_task(DatasetSettings(name, str(tmp_path), None, 0, None), seed=1).loaded["tasks"].values()
    docs = list(task.eval_docs)
    assert [{key: doc[key] for key in GOOD[name]} for doc in docs] == [GOOD[name]] * 3
    assert len({task.doc_to_text(doc) for doc in docs}) == 1


def test_a_column_of_several_types_comes_out_as_it_is() -> None:
    rows: list[dict[str, Any]] = [
        {"q": "a", "mixed": 1},
        {"q": "b", "mixed": "2b"},
        {"q": "c", "mixed": {"a": [None, 1.5, "x"]}},
    ]
    assert list(as_dataset(rows)) == rows
    assert list(as_dataset([{"a": 1}, {"b": "x"}])) == [{"a": 1, "b": None}, {"a": None, "b": "x"}]
    assert list(as_dataset([{"q": "a", "bad": "\ud800"}])) == [{"q": "a"}]
    assert len(as_dataset([])) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": NaN}', "line 2 is not valid JSON: NaN is not a JSON number"),
        (b'{"a": [-Infinity]}', "line 2 is not valid JSON: -Infinity is not a JSON number"),
        (b"\0" * 50, "line 2 is not valid JSON"),
        (b'{"a": "\0"}', "line 2 is not valid JSON"),
        (b"[" * 100_000, "line 2 is nested too deeply"),
        (b'{"a":' * 100_000, "line 2 is nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "line 2 is not valid JSON: Exceeds the limit"),
        (b'{"a": 1}{"a": 2}', "line 2 is not valid JSON: Extra data in column 9"),
        (b"'a'", "line 2 is not valid JSON"),
        (b"\xff\xfe", "line 2 is not UTF-8"),
        (b"null", "line 2 must hold a JSON object, not NoneType"),
    ],
    ids=range(11),
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_a_line_that_is_no_row_is_named(content: bytes, message: str, packed: bool, tmp_path: Path) -> None:
    file = tmp_path / ("test.jsonl.gz" if packed else "test.jsonl")
    whole = b'{"a": 1}\n' + content + b"\n"
    file.write_bytes(gzip.compress(whole) if packed else whole)
    with pytest.raises(UsageError) as caught:
        read_rows(file)
    assert str(caught.value).startswith(f"{file}, {message}")


def refused(path: object, asked: str = "test") -> str:
    with pytest.raises(UsageError) as caught:
        read_splits(str(path), asked, {"train"}, {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_what_is_no_plain_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path in ("/dev/null", "/dev/zero", tmp_path / "pipe.jsonl"):
        assert refused(path) == f"{path} is not a regular file"
    (tmp_path / "test.jsonl").mkdir()
    assert refused(tmp_path).startswith(f"{tmp_path / 'test.jsonl'} is not a regular file")


def test_paths_with_nothing_to_ask_name_what_is_there(tmp_path: Path) -> None:
    assert refused(tmp_path) == f"dataset.path {tmp_path} has no test.jsonl; it holds nothing"
    for number in range(30):
        (tmp_path / f"part{number}.txt").write_text("")
    assert refused(tmp_path).endswith(" and 20 more")
    (tmp_path / "tests.jsonl").write_text("")
    assert refused(tmp_path).endswith(f"did you mean dataset.path={tmp_path / 'tests.jsonl'}?")
    empty = tmp_path / "tests.jsonl"
    assert refused(empty) == f"{empty} is empty; it must hold one JSON object per line"
    assert refused(tmp_path / "test.jsonl").endswith("test.jsonl does not exist: did you mean 'tests.jsonl'?")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "gone")
    assert "link.jsonl is a broken link" in refused(tmp_path / "link.jsonl")
    assert "is not a valid path" in refused("a\0b")
    assert "is not a valid path" in refused("a" * 5000)
    assert "names the home folder of an unknown user" in refused("~nobody-of-that-name/data")
    if sys.platform != "win32" and os.geteuid():
        tmp_path.chmod(0)
        try:
            assert "can't be read: Permission denied" in refused(tmp_path)
        finally:
            tmp_path.chmod(0o700)


def test_the_home_folder_may_be_written_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "test.jsonl").write_text('{"a": 1}')
    assert read_splits("~", "test", set(), {}) == read_splits("~/test.jsonl", "test", set(), {}) == {"test": [{"a": 1}]}


def test_packed_files_may_have_a_name_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "TEST.JSONL.GZ").write_bytes(gzip.compress(b'{"a": 1}'))
    assert read_rows(tmp_path / "TEST.JSONL.GZ") == [{"a": 1}]


@pytest.mark.sampled(6)
def test_files_that_unpack_without_end_are_given_up(tmp_path: Path) -> None:
    start = time.monotonic()
    file = tmp_path / "test.jsonl.gz"
    with gzip.open(file, "wb", compresslevel=1) as packed:
        for _ in range(80):
            packed.write(b"0" * (1 << 20))
    with pytest.raises(UsageError, match=r"test\.jsonl\.gz, line 1 has more than 64 MiB"):
        read_rows(file)
    with gzip.open(file, "wb", compresslevel=1) as packed:
        for _ in range(LIMITS.lines // 100_000 + 1):
            packed.write(b"\n" * 100_000)
    with pytest.raises(UsageError, match=r"test\.jsonl\.gz has more than 5,000,000 lines"):
        read_rows(file)
    assert time.monotonic() - start < 60
