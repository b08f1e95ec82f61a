"""Reading untrusted files: refusals, with their time and memory."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import resource
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from cache_zoo import UsageError
from evaluation.storage.plain_yaml import read_yaml
from evaluation.storage.readers import SAMPLES_LIMITS, read_json, read_json_lines

ROOT = Path(__file__).resolve().parent.parent


def rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    return list(read_json_lines(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not valid JSON"),
        (b"[]", "must hold a JSON object, not list"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": 1e999}', "too large or too long"),
        (b'{"a": 1.' + b"0" * 100 + b"}", "too large or too long"),
        (b'{"a": ' + b"7" * 4000 + b"}", "a number has 4000 digits"),
        (b'{"a": ' + b"7" * 1_000_000 + b"}", "a number has 1000000 digits"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' appears twice"),
        (b'{"a": "\\ud800"}', "half a surrogate pair"),
        (b'{"\\udfff": 1}', "half a surrogate pair"),
        (b'{"a": "\xff"}', "is not UTF-8"),
        (b'{"a": "\x1b[2J"}', "is not valid JSON"),
        (b"{}\x00\x00\x00", "is not valid JSON"),
        (b"\x00" * 4096, "is not valid JSON"),
        (b'{"a": ' + b"[" * 100_000, "is nested too deeply"),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "nested more than 32 levels deep"),
        (b'{"a":' * 100_000, "is nested too deeply"),
        (b'{"a": [' + b"[]," * 1_000_000 + b"1]}", "more than 250,000 values"),
        (b'{"a": "' + b"x" * (9 << 20) + b'"}', "has more than 8 MiB"),
    ],
)
def test_json_that_no_run_has_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "results.json"
    file.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        read_json(file)
    assert str(refused.value).startswith(f"{file} ")
    assert said in str(refused.value)
    assert len(str(refused.value)) < 400
    if len(content) < SAMPLES_LIMITS.line_bytes and b"\n" not in content and content:
        samples = tmp_path / "samples.jsonl"
        samples.write_bytes(b"{}\n" + content + b"\n")
        with pytest.raises(UsageError, match="line 2"):
            rows(samples)


def test_plain_json_is_read(tmp_path: Path) -> None:
    values = {"a": [1, -2.5, True, None, "ü😀\n"], "b": {"c": {}}, "flops": 10**20}
    file = tmp_path / "results.json"
    file.write_text(json.dumps(values))
    assert read_json(file) == values
    (tmp_path / "samples.jsonl").write_text("\ufeff" + json.dumps(values) + "\n\n" + json.dumps(values))
    (tmp_path / "samples.jsonl.gz").write_bytes(gzip.compress((tmp_path / "samples.jsonl").read_bytes()))
    for path in (tmp_path / "samples.jsonl", tmp_path / "samples.jsonl.gz"):
        assert rows(path) == [(f"{path}, line 1", values), (f"{path}, line 3", values)]


def link(path: Path) -> None:
    path.with_name("elsewhere").write_text("{}")
    path.symlink_to("elsewhere")


def lost_link(path: Path) -> None:
    path.symlink_to("nowhere")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(path.parent)
        made.bind(path.name)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (link, "it is a link"),
        (lost_link, "it is a link"),
        (loop, "it is a link"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a link"),
        (os.mkfifo, "not a regular file"),
        (listen, "can't be read"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: None, "No such file"),
    ],
)
@pytest.mark.parametrize("read", [read_json, read_yaml, rows])
def test_only_plain_files_are_opened(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], None],
    said: str,
    read: Callable[[Path], object],
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "samples.jsonl"
    make(path)
    with pytest.raises(UsageError, match=said):
        read(path)


def test_devices_and_impossible_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a regular file"):
        read_json(Path("/dev/zero"))
    with pytest.raises(UsageError, match="not a valid file name"):
        read_json(tmp_path / "a\0b")


def bomb(content: bytes, times: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(content) for _ in range(times)) + packer.flush()


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("samples.jsonl.gz", lambda: bomb(b"\0" * (1 << 20), 600), "line 1 has more than 2 MiB"),
        ("samples.jsonl.gz", lambda: bomb(b"\n" * (1 << 20), 600), f"more than {SAMPLES_LIMITS.lines:,} lines"),
        ("samples.jsonl.gz", lambda: bomb(b'{"a": "' + b"x" * 1_500_000 + b'"}\n', 400), "more than 64 MiB"),
        ("samples.jsonl.gz", lambda: bomb(b'{"a": [' + b"[]," * 100_000 + b"1]}\n", 60), "of memory"),
        ("samples.jsonl.gz", lambda: bomb('{"a": "😀'.encode() + b"x" * 1_500_000 + b'"}\n', 80), "of memory"),
        ("samples.jsonl.gz", lambda: gzip.compress(b"") * 1_000_000, "there is data after its end"),
        ("samples.jsonl.gz", lambda: gzip.compress(b"{}\n")[:-3], "its end is missing"),
        ("samples.jsonl.gz", lambda: b"hello", "can't be unpacked"),
        ("samples.jsonl.gz", lambda: b"", "its end is missing"),
        ("samples.jsonl", lambda: b'{"a": "' + b"x" * (60 << 20) + b'"}', "line 1 has more than 2 MiB"),
        ("samples.jsonl", lambda: b"\n\n", "is empty"),
    ],
)
def test_sizes_are_bounded_while_reading(tmp_path: Path, name: str, content: Callable[[], bytes], said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content())
    program = (
        "import sys; from pathlib import Path; from evaluation.storage.readers import read_json_lines\n"
        "try: rows = list(read_json_lines(Path(sys.argv[1])))\n"
        "except ValueError as error: print(error)\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (500 << 20, 500 << 20)),
    )
    assert said in found.stdout
    assert str(path) in found.stdout
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime < 10


LAUGHS = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "line 1 is not plain YAML: it has anchors, aliases or tags"),
        ("a: *b", "anchors, aliases or tags"),
        ("a: !!python/object/apply:os.system [touch marker]", "anchors, aliases or tags"),
        ("a: !!int '7'", "anchors, aliases or tags"),
        ("a: " + "[" * 20_000, "more than 32 levels"),
        ("a: " + "{b: " * 15_000, "more than 32 levels"),
        ("a: 1\nb: 2\na: 3", "twice"),
        ("1: 2", "not text"),
        ("? [a, b]\n: 1", "twice|hashable|not plain YAML"),
        ("- a", "keys and values, not list"),
        ("", "keys and values, not NoneType"),
        ("a: .nan", "not finite"),
        ("a: 1e999", "not finite"),
        ("a: 1" + "0" * 4000, "more than 30 digits"),
        ("a: 1" + "0" * 6000, "not valid YAML|digits"),
        ("a: 1" + ":01" * 15_000, "digits"),
        ("a: !!binary aGVsbG8=", "tags"),
        ("a: " + "x" * 100_000, "more than 64 KiB"),
        ("a: [1", "not plain YAML"),
        ("a: \x1b[2J", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not plain YAML"),
        ('a: "\\ud800"', "half a surrogate|not valid YAML|not plain YAML"),
    ],
)
def test_yaml_that_is_more_than_data_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    started = time.process_time()
    with pytest.raises(UsageError, match=said) as refused:
        read_yaml(path)
    assert str(refused.value).startswith(str(path))
    assert len(str(refused.value)) < 400
    assert time.process_time() - started < 5


def test_yaml_of_64_kib_takes_no_longer_than_a_command_may(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for text in ("a: [" + "b," * 32_000 + "]", "".join(f"k{n}: {n}\n" for n in range(5_000)), "a: '" + "''" * 32_000):
        path.write_text(text[: 64 << 10])
        started = time.process_time()
        with contextlib.suppress(UsageError):
            read_yaml(path)
        assert time.process_time() - started < 8


def test_yaml_is_read_as_hydra_writes_it(tmp_path: Path) -> None:
    values = {
        "texts": ["1e-5", "yes", "null", "~", "1:30", "2026-01-01", "0x10", "", " a", "a: b", "ü", "<<", "=", "1_000"],
        "numbers": [1, -1, 0.1, 1e-05, 1e22, 10**18, 1.0],
        "others": [True, False, None, [], {}],
        "group": {"name": "none", "lines": "a\nb\n"},
    }
    path = tmp_path / "config.yaml"
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(values)))
    assert read_yaml(path) == values
    path.write_text("a: 1e-5\nb: ${oc.env:HOME}\nc: ${.a}\nd: '<<'\n")
    assert read_yaml(path) == {"a": 1e-5, "b": "${oc.env:HOME}", "c": "${.a}", "d": "<<"}


def test_the_configurations_of_the_reference_are_read_as_before() -> None:
    paths = sorted((ROOT / "results" / "reference").glob("*/config.yaml"))
    assert len(paths) == 40
    for path in paths:
        assert read_yaml(path) == OmegaConf.to_container(OmegaConf.load(path)) == yaml.safe_load(path.read_text())
