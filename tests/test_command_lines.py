"""Unusable command lines of eval.py: the error, and how fast it comes."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation import eval_command as cli
from tests.test_sweeps import ROOT, environment


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of eval.py's main in this process."""
    monkeypatch.setattr(sys, "argv", ["eval.py", *arguments])
    try:
        code = cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    return (code, *capsys.readouterr())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--foo", "unknown option '--foo': "),
        ("-x", "unknown option '-x'"),
        ("--multirn cache=none", "unknown option '--multirn': did you mean '--multirun'?"),
        ("--cfg foo", "--cfg takes one of job, hydra, all, not 'foo'"),
        ("--cfg jbo", "--cfg takes one of job, hydra, all, not 'jbo'"),
        ("--cfg", "--cfg takes one of job, hydra, all, not ''"),
        ("--cfg job modle=x", "unknown key 'modle': did you mean 'model'?"),
        ("modle=x --cfg job", "unknown key 'modle': did you mean 'model'?"),
        ("--help modle=x", "unknown key 'modle': did you mean 'model'?"),
        ("--cfg=all seed=x", "seed must be a whole number, not 'x'"),
        ("--cfg job cache=none,dual", "a sweep over them needs -m"),
        ("--cfg job cache=dulal", "did you mean 'dual'?"),
        ("--cfg job generation.gen_length=99999999999", "gen_length must be at most"),
        ("--cfg job -m seed=1,2", "--cfg prints the configuration of one cell; leave out -m"),
        ("--help --config-name other", "unknown option '--config-name': did you mean"),
        ("model=nano-llada extra", "'extra' is not of the form key=value"),
        ("-m seed=range(1,3,0)", "'seed=range(1,3,0)' is no list of values"),
        ("output_dir=/dev/null/x", "output_dir /dev/null/x can't be used: /dev/null is not a folder"),
        ("-m cache=none,dual output_dir=/proc/x", "output_dir /proc/x can't be written to"),
        ("model.name=\x1b[31m", "is not of the form key=value"),
    ],
)
def test_a_line_that_cannot_be_used_is_one_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    code, out, err = run(monkeypatch, capsys, *line.split(" "))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert err[:-1].isprintable()


def test_options_may_stand_anywhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(
        monkeypatch, capsys, "seed=3", "--cfg", "job", "batch_size=2", "retry=failed,oom", "output_dir=~/x"
    )
    assert code == 0, err
    assert "seed: 3\n" in out
    assert "batch_size: 2\n" in out
    assert "output_dir: ~/x\n" in out
    assert "retry:\n- failed\n- oom\n" in out


def test_an_error_comes_at_once() -> None:
    """In processor time, which other processes do not lengthen; trying every divisor took minutes."""
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    line = [sys.executable, str(ROOT / "eval.py"), "generation.gen_length=99999999999"]
    done = subprocess.run(line, cwd=Path(ROOT), env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: gen_length must be at most 131,072, not 99999999999")
    assert sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before < 6


def test_a_line_in_bytes_that_are_no_text_is_one_error() -> None:
    line = [sys.executable.encode(), str(ROOT / "eval.py").encode(), b"model.system_prompt=\xff\xfe"]
    done = subprocess.run(line, cwd=Path(ROOT), env=environment(), capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1
