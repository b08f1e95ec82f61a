"""Reading a run folder runs nothing that it names: every import, task file and resolver would write a marker."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cache_zoo import UsageError
from evaluation.config.settings import Settings
from evaluation.report import check, compare, leaderboard, rescore, table
from evaluation.trace import __main__ as trace
from evaluation.trace.draw import record_all
from evaluation.trace.questions import select_question
from tests.small_runs import call, edit_results, pick

CODE = """
from pathlib import Path
Path({marker!r}).write_text("it ran")
from cache_zoo import KVCache
from generation.strategies.strategy import Strategy

class Own(KVCache):
    paper = "none"

class Decoder(Strategy):
    def commit(self, view):
        return view.eligible

def rows(*arguments, **more):
    Path({marker!r}).write_text("it ran")
"""
TASK = """
task: nano-gsm-own
custom_dataset: !function evil.rows
doc_to_text: !function evil.rows
doc_to_target: x
output_type: generate_until
test_split: test
"""
Change = Callable[[dict[str, Any], Path], None]


def target(config: dict[str, Any], here: Path) -> None:
    config["cache"] = {"_target_": "evil.Own"}


def below_results(config: dict[str, Any], here: Path) -> None:
    config["cache"] = {"_target_": f"{here.parent.name}.{here.name}.evil.Own"}


def named_class(config: dict[str, Any], here: Path) -> None:
    config["cache"] = {"name": "evil:Own"}


def strategy(config: dict[str, Any], here: Path) -> None:
    config["generation"]["strategy"] = "evil:Decoder"


def task_files(config: dict[str, Any], here: Path) -> None:
    config["include_path"] = str(here)
    config["dataset"]["name"] = "nano-gsm-own"


def task_of_ours(config: dict[str, Any], here: Path) -> None:
    config["include_path"] = str(here)


def resolver(config: dict[str, Any], here: Path) -> None:
    config["model"]["system_prompt"] = "${oc.env:HOME}${hydra:job.name}${evil:1}"


def instantiated(config: dict[str, Any], here: Path) -> None:
    for group in ("model", "dataset", "generation", "likelihood"):
        config[group]["_target_"] = "evil.rows"


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "change",
    [target, below_results, named_class, strategy, task_files, task_of_ours, resolver, instantiated],
)
def test_no_command_runs_what_a_run_names(
    results: Path, change: Change, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    marker, run, baseline = results.parent / "marker", pick(results, "dual"), pick(results, "none")
    code = results.parent / "code"
    code.mkdir()
    (code / "evil.py").write_text(CODE.format(marker=str(marker)))
    (code / "evil.yaml").write_text(TASK)
    for folder in (code, code.parent, Path.cwd()):
        monkeypatch.syspath_prepend(str(folder))
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config, code)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    edit_results(run, lambda found: found.update(config=config))
    monkeypatch.chdir(results.parent)
    codes = {
        "check": call(monkeypatch, check, run),
        "table": call(monkeypatch, table, results),
        "leaderboard": call(monkeypatch, leaderboard, results),
        "compare": call(monkeypatch, compare, run, baseline),
        "rescore": call(monkeypatch, rescore, run),
        "trace": call(monkeypatch, trace, run),
    }
    said = capsys.readouterr()
    assert not marker.exists()
    assert "evil" not in sys.modules
    assert "Traceback" not in said.err
    assert codes["check"] == 1
    assert codes["table"] == codes["leaderboard"] == 0
    if change not in (resolver,):
        assert codes["trace"] == 2
    assert not list(run.glob("trace_*"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (target, "the class evil.Own of .* is not read from a run folder.*eval.py, its settings and trace=ROW"),
        (named_class, "unknown cache 'evil:Own'"),
        (strategy, "unknown strategy 'evil:Decoder'"),
        (task_files, "include_path .* of .* is not read from a run folder"),
        (lambda config, here: config["dataset"].update(name="hellaswag"), "the task hellaswag of .* is not read from"),
        (
            lambda config, here: config["model"].update(path="someone/else"),
            "checkpoint someone/else is neither a local folder nor that of",
        ),
        (lambda config, here: config["generation"].update(gen_length=8192), "more than the model's context of 4096"),
    ],
)
def test_a_trace_says_what_it_does_not_follow(results: Path, change: Change, said: str) -> None:
    run = pick(results, "none")
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config, results)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UsageError, match=said):
        record_all([select_question(run, None)])


def test_settings_of_a_program_may_name_any_class(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = results.parent / "code"
    code.mkdir()
    (code / "own_class.py").write_text(CODE.format(marker=str(results.parent / "marker")))
    monkeypatch.syspath_prepend(str(code))
    run = pick(results, "none")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["cache"] = {"_target_": "own_class.Own"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    settings = Settings.from_config(config)
    assert select_question(run, "1", settings=settings).settings.cache.label == "Own"
    assert (results.parent / "marker").exists()


def test_data_that_a_run_names_are_bounded(results: Path) -> None:
    run, data = pick(results, "none"), results.parent / "data"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    (data / "test.jsonl").write_text('{"question": "' + "x" * (3 << 20) + '"}\n')
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["dataset"]["path"] = str(data)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UsageError, match=r"test\.jsonl, line 1 has more than 2 MiB"):
        select_question(run, None)
