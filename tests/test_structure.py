"""The shape of the project: imports point one way, and no cache is named outside its own places."""

from __future__ import annotations

import ast
import re
import sys

import pytest

from cache_zoo import describe_all
from tools.architecture import PICTURE, ROOMS, ROOT, draw, imported_modules, imports, sources

PAGE = ROOT / "docs" / "architecture.md"


def packages_imported(room: str) -> set[str]:
    return {module.partition(".")[0] for path in sources(room) for module in imported_modules(path)}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room: str) -> None:
    assert sources(room), f"{room} has no files"
    above = set(ROOMS[ROOMS.index(room) + 1 :])
    assert not imports()[room] & above, f"{room} imports a room above it (tools/architecture.py has the order)"


def test_every_package_is_a_room() -> None:
    packages = {path.parent for path in ROOT.glob("evaluation/*/__init__.py")}
    assert {f"evaluation.{path.name}" for path in packages} == {
        room for room in ROOMS if room.startswith("evaluation.")
    }


def test_caches_need_nothing_but_torch() -> None:
    assert packages_imported("cache_zoo") <= {"cache_zoo", "torch", *sys.stdlib_module_names}


def test_the_sandbox_needs_nothing_of_ours() -> None:
    assert imports()["evaluation.sandbox"] == set()


@pytest.mark.parametrize("room", ROOMS[1:])
def test_no_cache_is_named_above_the_caches(room: str) -> None:
    # "entropy" is also a confidence, and a field of an outcome
    names = {info.name for info in describe_all() if info.package is None} - {"none", "entropy"}
    for path in sources(room):
        texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not {text for text in texts if isinstance(text, str)} & names, path


def test_the_picture_is_that_of_the_code() -> None:
    assert PICTURE.read_text() == draw(), "the rooms have changed: make architecture"


def test_the_way_of_a_sample_leads_through_functions_that_exist() -> None:
    hops = re.findall(r"(?m)^\d+\. `([\w/]+\.py)`, `([\w.]+)`", PAGE.read_text())
    assert 5 < len(hops) <= 10
    for file, name in hops:
        body = ast.parse((ROOT / file).read_text()).body
        for part in name.split("."):
            found = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part]
            assert found, f"{file} has no {name}"
            body = found[-1].body


def test_the_files_that_the_page_names_exist() -> None:
    named = re.findall(r"`(\w+/[\w/.]*)`", PAGE.read_text())
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []
