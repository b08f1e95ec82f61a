"""Caches of installed packages work everywhere: the one in tests/third_party, and one written by `cache-zoo new`."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import processes

ROOT = Path(__file__).resolve().parent.parent
QUICK = [
    "model=nano-llada",
    "dataset=nano-gsm",
    "dataset.size=1",
    "dataset.n_shot=0",
    "generation.gen_length=16",
    "generation.block_length=8",
]
PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore:Module already imported"]
"""A forked process has imported libraries that are pytest's plug-ins, too, before pytest could rewrite them."""


def run(*command: str, installed: Path | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a Python program that sees this checkout and the ``installed`` packages."""
    path = os.pathsep.join([str(ROOT), *([str(installed)] if installed else [])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    return processes.run(list(command), cwd=cwd, env=environment)


def install(package: Path, target: Path) -> Path:
    """Install a package into a new folder, without network."""
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    done = run("-m", "pip", "install", *options, "--target", str(target), str(package))
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which tests/third_party is installed."""
    return install(ROOT / "tests" / "third_party", tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def results(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep over the baseline and the installed cache: its folder and its output."""
    folder = tmp_path_factory.mktemp("results")
    sweep = ["eval.py", "-m", "cache=none,window", *QUICK, f"output_dir={folder}"]
    return folder, run(*sweep, installed=installed)


def test_the_list_has_it_and_says_why_the_broken_one_is_not_usable(installed: Path) -> None:
    shown = run("-m", "evaluation", "list", installed=installed)
    assert shown.returncode == 0
    assert "every=8 width=16" in shown.stdout
    assert "sliding-window-cache 1.2" in shown.stdout
    (warning,) = shown.stderr.splitlines()
    assert warning.startswith("warning: cache 'sinking' of sliding-window-cache 1.2 can't be used: ")
    assert warning.endswith("RuntimeError: this module needs a newer torch")

    listed = run("-m", "evaluation", "list", "kind=caches", "json=true", installed=installed)
    infos = {one["name"]: one for one in json.loads(listed.stdout)}
    window: dict[str, Any] = infos["window"]
    assert (window["package"], window["version"], window["error"]) == ("sliding-window-cache", "1.2", None)
    assert window["urls"] == ["https://example.org/sliding-window"]
    assert window["capabilities"] == ["exact with every=1"]
    assert [(one["name"], one["default"]) for one in window["parameters"]] == [("every", 8), ("width", 16)]
    assert window["parameters"][0]["text"] == "steps between refreshes of the whole canvas."
    assert "needs a newer torch" in infos["sinking"]["error"]


def test_the_contract_holds_it(installed: Path) -> None:
    """A sample of it: one decoder, all promises, both families and batch sizes."""
    done = run(*PYTEST, "-m", "", "-k", "window and blocks", "tests/test_contract.py", installed=installed)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b[1-9]\d* passed", done.stdout)
    assert "plug-in left out: 'sinking'" in done.stdout


def test_it_is_a_choice_of_a_sweep_beside_ours(results: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = results
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["cache"], line["status"]) for line in lines] == [("none", "done"), ("window", "done")]
    assert lines[1]["compute_ratio"] < 1
    assert done.stderr.count("RuntimeWarning: cache plug-in left out: 'sinking'") == 1
    (run_folder,) = folder.glob("*__window__*")
    found = json.loads((run_folder / "results.json").read_text())
    assert found["config"]["cache"] == {"name": "window", "every": 8, "width": 16}
    assert found["provenance"]["cache_package"] == "sliding-window-cache 1.2"
    if found["provenance"]["git"]:  # what it derives from is of known origin, too
        package = {"origin": "package", "name": "sliding-window-cache", "version": "1.2"}
        assert found["provenance"]["cache_code"] == package


def test_its_runs_are_in_the_table(results: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    shown = run("-m", "evaluation", "table", str(results[0]))
    assert shown.returncode == 0, shown.stderr
    assert "window" in shown.stdout


@pytest.mark.sampled(4)
@pytest.mark.parametrize("there", [True, False])
def test_its_runs_are_in_every_file_of_the_leaderboard(
    there: bool, installed: Path, results: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Whether or not the package is installed where the leaderboard is made; where it is, its page has its facts."""
    arguments = ["-m", "evaluation", "leaderboard", str(results[0]), f"out={tmp_path}"]
    shown = run(*arguments, installed=installed if there else None)
    assert shown.returncode == 0, shown.stderr
    with (tmp_path / "leaderboard.csv").open(newline="") as file:
        caches = {row["cache"]: row["cache_parameters"] for row in csv.DictReader(file)}
    assert caches == {"none": "", "window": "every=8 width=16"}
    assert "| window | every=8 width=16 |" in (tmp_path / "leaderboard.md").read_text()
    page = (tmp_path / "leaderboard.html").read_text()
    assert 'href="#cache-window">window</a>' in page
    assert ("steps between refreshes of the whole canvas." in page) == there
    assert ("Not registered where this page was written" in page) == (not there)


def test_its_parameters_are_keys_of_the_command_line(installed: Path) -> None:
    shown = run("eval.py", "cache=window", "cache.width=4", "--cfg", "job", installed=installed)
    assert "cache:\n  name: window\n  every: 8\n  width: 4\n" in shown.stdout
    (listed,) = re.findall(r"^cache: (.*)$", run("eval.py", "--help", installed=installed).stdout, re.MULTILINE)
    assert {"none", "window"} <= set(listed.split(", "))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cache=windw", "unknown choice 'cache=windw': did you mean 'window'?"),
        ("cache=sinking", "can't be imported: RuntimeError: this module needs a newer torch"),
    ],
)
def test_mistakes_with_installed_caches_are_named(installed: Path, override: str, message: str) -> None:
    done = run("eval.py", override, "cache.width=0", *QUICK, installed=installed)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]


def test_a_value_that_its_class_refuses_is_one_error(installed: Path) -> None:
    done = run("eval.py", "cache=window", "cache.width=0", *QUICK, installed=installed)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: cache 'window' can't be made from ")


@pytest.mark.slow
def test_a_package_that_new_writes_can_be_installed_and_keeps_the_contract(tmp_path: Path) -> None:
    written = run("-m", "evaluation", "new", "far_sighted", "package=true", f"into={tmp_path}")
    assert written.returncode == 0, written.stderr
    package = tmp_path / "cache-zoo-far-sighted"
    target = install(package, tmp_path / "target")
    shown = run("-m", "evaluation", "list", "far_sighted", installed=target)
    assert "cache-zoo-far-sighted 0.1.0" in shown.stdout
    done = run(*PYTEST, "-k", "blocks", installed=target, cwd=package)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b[1-9]\d* passed", done.stdout)
    again = run("-m", "evaluation", "new", "far_sighted", "package=true", f"into={tmp_path}")
    assert again.returncode == 2
    assert again.stderr.startswith("error: ")
    assert "already exists" in again.stderr


@pytest.mark.slow
def test_a_package_with_a_strategy_that_new_writes_works_at_once(tmp_path: Path) -> None:
    written = run("-m", "evaluation", "new", "near_sighted", "strategy=true", f"into={tmp_path}")
    assert written.returncode == 0, written.stderr
    package = tmp_path / "cache-zoo-near-sighted"
    rules = ["--no-cache", "--config", str(ROOT / "pyproject.toml")]
    linted = run("-m", "ruff", "check", *rules, str(package / "cache_zoo_near_sighted.py"))
    assert linted.returncode == 0, linted.stdout
    target = install(package, tmp_path / "target")
    shown = run("-m", "evaluation", "list", "near_sighted", installed=target)
    assert "parameters  width=4\n" in shown.stdout
    assert "cache-zoo-near-sighted 0.1.0" in shown.stdout
    done = run(*PYTEST, "-k", "blocks", installed=target, cwd=package)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b[1-9]\d* passed", done.stdout)
    folder = f"output_dir={tmp_path / 'results'}"
    evaluated = run("eval.py", "-m", *QUICK, "generation=vanilla,near_sighted", folder, installed=target)
    assert evaluated.returncode == 0, evaluated.stderr
    assert len(evaluated.stdout.splitlines()) == 2
    by_key = ["generation.strategy=near_sighted", "+generation.width=4", folder]
    again = run("eval.py", *QUICK, *by_key, installed=target)
    assert "force=true runs it again" in again.stderr, "another spelling of the same run"
    for override, message in (
        ("generation.widht=1", "unknown key 'generation.widht': did you mean 'generation.width'?"),
        ("generation.width=null", "strategy 'near_sighted' can't be made: parameter 'width' must be a whole number"),
    ):
        refused = run("eval.py", *QUICK, "generation=near_sighted", override, folder, installed=target)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert message in refused.stderr
    misspelt = run("eval.py", *QUICK, *by_key, "+generation.widht=1", installed=target)
    assert "unknown generation option 'widht': did you mean 'width'?" in misspelt.stderr
    elsewhere = run("eval.py", *QUICK, by_key[0], "generation.width=4", installed=target)
    assert "unknown key 'generation.width': it belongs to generation=near_sighted." in elsewhere.stderr
    taken = run("-m", "evaluation", "new", "window", "strategy=true", f"into={tmp_path}")
    assert (taken.returncode, taken.stderr.count("\n")) == (2, 1)
    assert "strategy 'window' of cache-zoo already exists" in taken.stderr
