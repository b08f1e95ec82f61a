"""Provenance: only the checkout with the code counts, and code in no commit is dirty."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from cache_zoo import Cache
from evaluation.run import code_origin as origin
from evaluation.run.code_origin import UNKNOWN, checkout, origin_of
from evaluation.run.provenance import merged, provenance

ROOT = Path(__file__).resolve().parent.parent
CLASS = "from cache_zoo import Cache\n\n\nclass Mine(Cache):\n    pass\n"


def git(folder: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


def committed(folder: Path) -> str:
    """Make a folder a repository, with everything in it in one commit."""
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "all")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The layout of this project, as far as it is read."""
    return laid_out(tmp_path / "project")


def laid_out(folder: Path) -> Path:
    (folder / "evaluation" / "run").mkdir(parents=True)
    (folder / "evaluation" / "run" / "code_origin.py").write_text("")
    (folder / "pinned.py").write_text(CLASS)
    return folder


def imported(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> type[Cache]:
    """Import a module in ``folder`` and return its class."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module(name)
    monkeypatch.setitem(sys.modules, name, module)  # and not beyond the test
    found: type[Cache] = module.Mine
    return found


def test_the_commit_of_a_checkout(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = committed(project)
    assert checkout(project) == {"commit": commit, "dirty": False}
    (project / "stray.txt").write_text("no module")
    assert checkout(project) == {"commit": commit, "dirty": False}
    (project / "pinned.py").write_text(CLASS + "# changed\n")
    assert checkout(project) == {"commit": commit, "dirty": True, "changed": ["pinned.py"]}
    git(project, "add", "pinned.py")
    assert checkout(project) == {"commit": commit, "dirty": True, "changed": ["pinned.py"]}


def test_a_module_in_use_that_is_in_no_commit_is_not_clean(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed(project)
    (project / "fresh.py").write_text(CLASS)
    assert checkout(project)["dirty"] is False  # type: ignore[index] # it is not in use
    cls = imported(monkeypatch, project, "fresh")
    assert checkout(project)["changed"] == ["fresh.py"]  # type: ignore[index]
    assert own_origin(cls, project) == UNKNOWN
    (project / ".gitignore").write_text("fresh.py\n")
    assert checkout(project)["changed"] == ["fresh.py"]  # type: ignore[index]


@pytest.mark.parametrize("mark", ["--assume-unchanged", "--skip-worktree"])
def test_a_file_that_git_was_told_not_to_look_at_is_not_clean(
    project: Path, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    committed(project)
    cls = imported(monkeypatch, project, "pinned")
    assert checkout(project)["dirty"] is False  # type: ignore[index]
    assert own_origin(cls, project) == {"origin": "cache-zoo"}
    git(project, "update-index", mark, "pinned.py")
    (project / "pinned.py").write_text(CLASS + "# changed\n")
    assert checkout(project)["changed"] == ["pinned.py"]  # type: ignore[index]


@pytest.mark.parametrize("tracked", [True, False])
def test_a_repository_around_the_code_does_not_count(tmp_path: Path, tracked: bool) -> None:
    site = laid_out(tmp_path / "other" / "env" / "lib" / "site-packages")
    (tmp_path / "other" / ".gitignore").write_text("" if tracked else "env\n")
    committed(tmp_path / "other")
    assert checkout(site) is None


def test_a_repository_of_the_same_folder_that_does_not_have_the_code(project: Path) -> None:
    (project / ".gitignore").write_text("evaluation\n")
    committed(project)
    assert checkout(project) is None


def test_no_repository_and_no_commit(project: Path) -> None:
    assert checkout(project) is None
    git(project, "init", "--quiet")
    git(project, "add", "--all")
    assert checkout(project) is None


def test_variables_of_git_do_not_mislead(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = committed(project)
    other = laid_out(tmp_path / "other")
    committed(other)
    for key, value in {"GIT_DIR": other / ".git", "GIT_WORK_TREE": other, "GIT_INDEX_FILE": other / "i"}.items():
        monkeypatch.setenv(key, str(value))
    assert checkout(project) == {"commit": commit, "dirty": False}
    assert checkout(laid_out(tmp_path / "none")) is None


def test_worktrees_and_submodules_are_checkouts(project: Path, tmp_path: Path) -> None:
    commit = committed(project)
    git(project, "worktree", "add", "--quiet", str(tmp_path / "tree"))
    assert checkout(tmp_path / "tree") == {"commit": commit, "dirty": False}
    (tmp_path / "outer").mkdir()
    committed(tmp_path / "outer")
    git(tmp_path / "outer", "submodule", "--quiet", "add", str(project), "inner")
    assert checkout(tmp_path / "outer" / "inner") == {"commit": commit, "dirty": False}


def install(site: Path, editable: Path | None = None, digest: str | None = None) -> None:
    """An installed package with one module, ``somebody``."""
    info = site / "somebody-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.2\n")
    if editable is not None:
        url = {"url": editable.as_uri(), "dir_info": {"editable": True}}
        (info / "direct_url.json").write_text(json.dumps(url))
        (info / "RECORD").write_text("somebody-1.2.dist-info/METADATA,,\n")
        return
    (site / "somebody.py").write_text(CLASS)
    digest = base64.urlsafe_b64encode(hashlib.sha256(CLASS.encode()).digest()).rstrip(b"=").decode()
    (info / "RECORD").write_text(f"somebody.py,sha256={digest},{len(CLASS)}\n")


def test_code_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    install(site)
    cls = imported(monkeypatch, site, "somebody")
    assert own_origin(cls) == {"origin": "package", "name": "somebody", "version": "1.2"}
    (site / "somebody.py").write_text(CLASS + "# changed\n")
    assert own_origin(cls) == UNKNOWN


def test_a_class_on_the_python_path_is_of_unknown_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loose.py").write_text(CLASS)
    assert origin_of(imported(monkeypatch, tmp_path, "loose")) == UNKNOWN
    committed(tmp_path)  # of an unknown repository
    assert origin_of(imported(monkeypatch, tmp_path, "loose")) == UNKNOWN
    assert origin_of(type("Made", (Cache,), {"__module__": "nowhere"})) == UNKNOWN


def test_a_class_is_no_better_than_those_it_derives_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path)
    base = imported(monkeypatch, tmp_path, "somebody")
    (tmp_path / "loose.py").write_text(CLASS)
    loose = imported(monkeypatch, tmp_path, "loose")
    assert origin_of(type("Both", (base, loose), {"__module__": "somebody"})) == UNKNOWN


def test_an_editable_package_counts_with_its_own_clean_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "somebody.py").write_text(CLASS)
    install(tmp_path / "site", editable=source)
    monkeypatch.syspath_prepend(tmp_path / "site")
    cls = imported(monkeypatch, source, "somebody")
    assert own_origin(cls) == UNKNOWN
    commit = committed(source)
    told = {"origin": "package", "name": "somebody", "version": "1.2", "commit": commit}
    assert own_origin(cls) == told
    (source / "somebody.py").write_text(CLASS + "# changed\n")
    assert own_origin(cls) == UNKNOWN


def own_origin(cls: type, root: Path = ROOT) -> dict[str, object]:
    """Of the class alone, without its bases."""
    return origin._origin(sys.modules[cls.__module__].__file__, root)


def test_a_run_says_all_that_shapes_its_numbers() -> None:
    found = provenance()
    packages = (
        "cache-zoo",
        "torch",
        "transformers",
        "tokenizers",
        "numpy",
        "lm_eval",
        "datasets",
        "math-verify",
        "sympy",
    )
    assert all(found["versions"][name] for name in ("python", *packages))
    top = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    if top.returncode == 0 and found["git"]:
        assert found["git"]["commit"] == top.stdout.strip()


def test_sessions_with_other_weights_or_other_code_are_recorded() -> None:
    first = {**provenance(), "device": "cpu", "dtype": "float32", "rank": 0, "model": {"weights_sha256": "a"}}
    first |= {"cache_code": {"origin": "cache-zoo"}, "git": {"commit": "c", "dirty": False}}
    other_rank = {key: value for key, value in first.items() if key != "model"} | {"rank": 1}
    assert "several" not in merged([first, other_rank])["model"]
    again = {**first, "date": "9999", "model": {"weights_sha256": "b"}, "cache_code": UNKNOWN}
    found = merged([first, again])
    assert found["model"] == {"weights_sha256": "b", "several": True}
    assert found["cache_code"] == {"origin": "unknown", "several": True}
    assert "several" not in found["git"]


@pytest.mark.slow
def test_a_wheel_in_an_environment_inside_another_repository(tmp_path: Path) -> None:
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", *options, str(ROOT), "-w", str(tmp_path)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    other = tmp_path / "other"
    other.mkdir()
    venv.create(other / "env", symlinks=True)
    (site,) = (other / "env" / "lib").glob("python*/site-packages")
    subprocess.run([*pip, "install", *options, "--target", str(site), str(wheel)], check=True)
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    committed(other)

    def told() -> list[object]:
        program = (
            "import json; from cache_zoo import caches; from evaluation.run.code_origin import *; "
            "found = origin_of(caches.get('dual')); print(json.dumps([checkout(), version(), found]))"
        )
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        command = [str(other / "env" / "bin" / "python"), "-c", program]
        done = subprocess.run(command, cwd=other, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found: list[object] = json.loads(done.stdout)
        return found

    version = told()[1]
    assert told() == [None, version, {"origin": "cache-zoo", "name": "cache-zoo", "version": version}]
    with (site / "cache_zoo" / "methods" / "dual.py").open("a") as file:
        file.write("# another version\n")
    assert told() == [None, f"{version}+edited", UNKNOWN]
