"""Malicious run folders and names: one line, exit status 2 or a row, and nothing outside is read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cache_zoo import UsageError
from cache_zoo.methods.rollout import inflate
from evaluation.config.settings import Settings
from evaluation.report import check, compare, leaderboard, rescore, table
from evaluation.storage.plain_yaml import read_yaml
from evaluation.trace import __main__ as trace
from evaluation.trace.questions import select_question
from models import resolve_checkpoint
from tests.small_runs import call, edit_results, pick

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {"check": check, "table": table, "leaderboard": leaderboard, "rescore": rescore, "trace": trace}


def configured(run: Path, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    edit_results(run, lambda found: found.update(config=config))
    return config


@pytest.mark.parametrize("value", ["1:" * 300 + "1.5", '"\\UFFFFFFFF"', '"\\U00110000"', "0b_", "1:" * 9000 + "1"])
def test_no_value_of_yaml_is_a_traceback(tmp_path: Path, value: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"seed: {value}\n")
    with pytest.raises(UsageError, match=r"config\.yaml"):
        read_yaml(file)


@pytest.mark.parametrize(
    ("group", "key", "said"),
    [
        ("generation", "cls", "unknown generation option 'cls'"),
        ("generation", "self", "unknown generation option 'self'"),
        ("cache", "self", "unknown parameter 'self' of cache 'dual'"),
        ("cache", "cls", "unknown parameter 'cls' of cache 'dual'"),
        ("cache", "target", "unknown parameter 'target' of cache 'dual'"),
        ("model", "self", "unknown key 'model.self'"),
        ("likelihood", "cls", "unknown key 'likelihood.cls'"),
    ],
)
def test_keys_with_the_names_of_python_are_unknown_keys(
    results: Path, group: str, key: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = pick(results, "dual")
    configured(run, lambda config: config[group].update({key: 1}))
    assert call(monkeypatch, check, run) == 1
    assert said in capsys.readouterr().out
    assert call(monkeypatch, trace, run) == 2
    assert said in capsys.readouterr().err


def test_no_file_that_a_run_names_is_read_as_a_model(results: Path) -> None:
    run, other = pick(results, "dual"), results / "other"
    other.with_suffix(".yaml").write_text("path: ${oc.env:HOME}\n")
    for path in (str(other), "../../configs/model/nano-dream"):
        config = configured(run, lambda config, path=path: config["model"].update(path=path))  # type: ignore[misc]
        assert Settings.from_config(config, trusted=False).model.path == path
        with pytest.raises(UsageError):
            resolve_checkpoint(path)


@pytest.mark.parametrize("name", ["leaderboard.csv", "leaderboard.html"])
def test_a_leaderboard_is_not_half_written(
    results: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / name).mkdir()
    assert call(monkeypatch, leaderboard, results) == 2
    assert f"{name} can't be written: it is not a plain file" in capsys.readouterr().err
    assert [path.name for path in results.glob("leaderboard.*")] == [name]


@pytest.mark.parametrize("place", ["results.json/board", "status.json"])
def test_a_leaderboard_below_a_file_is_one_error(
    results: Path, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, leaderboard, results, f"out={pick(results, 'dual') / place}") == 2
    assert "can't be written" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "a\nb"])
def test_names_that_can_be_of_no_folder(
    command: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, COMMANDS[command], name) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert call(monkeypatch, compare, name, name) == 2


def test_data_that_are_a_loop_of_links_are_one_error(results: Path) -> None:
    run, data = pick(results, "none"), results.parent / "loop"
    data.mkdir()
    (data / "test.jsonl").symlink_to("test.jsonl")
    configured(run, lambda config: config["dataset"].update(path=str(data)))
    with pytest.raises(UsageError, match=r"test\.jsonl"):
        select_question(run, None)


def test_a_checkpoint_that_came_with_a_run_is_not_used(results: Path) -> None:
    """Its chat template is code, which could run for ever."""
    run = pick(results, "none")
    shutil.copytree(ROOT / "models" / "nano" / "llada", results / "model")
    for path in (results / "model", run):
        configured(run, lambda config, path=path: config["model"].update(path=str(path)))  # type: ignore[misc]
        with pytest.raises(UsageError, match="lies beside"):
            select_question(run, None)


def test_gaps_of_any_size_may_be_asked_for() -> None:
    torch = pytest.importorskip("torch")
    chosen = torch.tensor([[True, False, False, True], [False, True, False, False]])
    assert inflate(chosen, 2**63 - 1).tolist() == inflate(chosen, 4).tolist()
