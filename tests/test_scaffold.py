"""`cache-zoo new`: the files it writes, and its errors."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cache_zoo import UsageError
from cache_zoo.scaffold import new_cache, new_package
from tests import processes
from tests.test_third_party import PYTEST, ROOT, run

PARTS = ("cache_zoo", "configs", "evaluation", "generation", "models", "tests", "tools")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that a new cache changes and of their tests."""
    folder = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "conformance_cases", "safetensors", "third_party")
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    for file in [*ROOT.glob("*.md"), ROOT / "pyproject.toml", ROOT / "eval.py"]:
        shutil.copy(file, folder)
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def in_checkout(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return processes.run(list(command), cwd=folder, env=processes.environment(PYTHONPATH=str(folder)))


def test_a_new_cache_keeps_the_contract_and_the_rules_of_the_repository(checkout: Path) -> None:
    before = snapshot(checkout)
    written = in_checkout(checkout, "-m", "evaluation", "new", "far_sighted")
    assert written.returncode == 0, written.stderr
    after = snapshot(checkout)
    assert set(after) - set(before) == {"cache_zoo/methods/far_sighted.py"}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"cache_zoo/registry.py", "README.md"}
    for name in changed:
        old, new = before[name].decode().splitlines(), after[name].decode().splitlines()
        (line,) = [line for line in new if line not in old]
        assert [other for other in new if other != line] == old
        assert "far_sighted" in line

    shown = in_checkout(checkout, "-m", "evaluation", "list", "far_sighted")
    assert "every=4" in shown.stdout
    for arguments in (["check"], ["format", "--check"]):
        linted = in_checkout(checkout, "-m", "ruff", *arguments, "cache_zoo", "--no-cache")
        assert linted.returncode == 0, linted.stdout
    # the cache's own checks, and the tests that hold every cache to the rules: names, documents
    tests = ["tests/test_contract.py", "tests/test_structure.py", "tests/test_docs.py"]
    chosen = "far_sighted and blocks or named_above or readme_says or explains_its_parameters"
    done = in_checkout(checkout, *PYTEST, *tests, "-k", chosen)
    assert done.returncode == 0, done.stdout
    again = in_checkout(checkout, "-m", "evaluation", "new", "far_sighted")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "cache 'far_sighted' of cache-zoo already exists" in again.stderr
    assert snapshot(checkout) == after


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Cache", "invalid cache name 'My-Cache': use lower-case letters, digits and _, such as 'my_cache'"),
        ("2fast", "such as 'fast_cache'"),
        ("class", "such as 'class_cache'"),
        ("null", "such as 'null_cache'"),  # cache=null takes the cache away, as hydra reads it
        ("yes", "such as 'yes_cache'"),  # name: yes is a truth value, as YAML reads it
        ("nan", "such as 'nan_cache'"),
        ("../up", "such as 'up'"),
        ("", "such as 'cache'"),
        ("_", "such as 'cache'"),
        ("a_name_that_goes_on_and_on", "is too long; the limit is 24 characters"),
        ("none", "cache 'none' of cache-zoo already exists"),
        ("rollout", "rollout.py already exists"),
    ],
)
def test_names_that_cannot_be_are_refused_and_nothing_is_written(checkout: Path, name: str, message: str) -> None:
    before = snapshot(checkout)
    with pytest.raises(UsageError) as error:
        new_cache(name, checkout)
    assert message in str(error.value)
    assert snapshot(checkout) == before


def test_the_longest_name_makes_no_line_too_long(checkout: Path) -> None:
    for path in new_cache("w" * 24, checkout):
        if path.suffix == ".py":
            assert max(map(len, path.read_text().splitlines())) <= 120


def test_a_checkout_that_lost_its_table_is_left_alone(checkout: Path) -> None:
    (checkout / "README.md").write_text("# nothing\n")
    before = snapshot(checkout)
    with pytest.raises(UsageError, match=r"README.md lists no caches"):
        new_cache("far_sighted", checkout)
    assert snapshot(checkout) == before


def test_outside_a_checkout_there_are_only_packages(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not a checkout; give package=true"):
        new_cache("far_sighted", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_package_needs_a_free_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cache 'none' of cache-zoo already exists"):
        new_package("none", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_commands_that_are_none_exit_with_2(tmp_path: Path) -> None:
    unknown = run("-m", "evaluation", "list", "d3cache")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr.startswith("error: unknown name 'd3cache': did you mean 'd2cache'?")
    other = run("-m", "evaluation", "list", "d2cache", "kind=strategies")
    assert (other.returncode, other.stdout) == (2, "")
    assert other.stderr.startswith("error: unknown strategy 'd2cache': ")
    assert (
        run("-m", "evaluation", "new").stderr == "error: NAME is missing; usage: cache-zoo new NAME [key=value ...]\n"
    )
    misspelt = run("-m", "evaluation", "list", "jsn=true")
    assert (misspelt.returncode, misspelt.stderr.count("\n")) == (2, 1)
    assert misspelt.stderr.startswith("error: unknown option 'jsn': did you mean 'json'?")
    unlike = run("-m", "evaluation", "list", "qqq")
    assert re.match(
        r"error: unknown name 'qqq': the valid choices are ([\w]+, )*all, ([\w]+, )*d2cache, ", unlike.stderr
    )
    aside = run("-m", "evaluation", "new", "far_sighted", f"into={tmp_path}")
    assert (aside.returncode, aside.stderr) == (2, "error: into= is the folder of a package; it needs package=true\n")
    refused = run("-m", "evaluation", "new", "My-Cache", "package=true", f"into={tmp_path}")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_the_list_has_every_kind_with_its_parameters() -> None:
    shown = run("-m", "evaluation", "list")
    assert shown.returncode == 0, shown.stderr
    headings = [line.partition(":")[0] for line in shown.stdout.splitlines() if re.match(r"[A-Z]+: ", line)]
    assert headings == ["CACHES", "SUFFIXES", "STORES", "STRATEGIES"]
    assert "parameters  window=16\n" in shown.stdout
    both = run("-m", "evaluation", "list", "window")
    assert re.findall(r"(?m)^[A-Z]+: |^\w+$", both.stdout) == ["SUFFIXES: ", "window", "STRATEGIES: ", "window"]
    one = run("-m", "evaluation", "list", "window", "kind=strategies")
    assert one.stdout.splitlines()[-1].strip() == "window: masks that may be committed, at least 1."
    found = json.loads(run("-m", "evaluation", "list", "json=true").stdout)
    assert {entry["kind"] for entry in found} == {"cache", "suffix", "store", "strategy"}
    (window,) = [entry for entry in found if (entry["kind"], entry["name"]) == ("strategy", "window")]
    assert [parameter["name"] for parameter in window["parameters"]] == ["window"]


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -u -m evaluation list | head -1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("CACHES: cache=NAME cache.PARAMETER=VALUE\n", "")
