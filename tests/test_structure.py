"""The shape of the project: imports point one way, and no cache is named outside its own places."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from cache_zoo import describe_all

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("cache_zoo", "models", "generation", "evaluation", "eval")
"""From the bottom to the top; each may import those before it."""


def sources(layer: str) -> list[Path]:
    return [ROOT / "eval.py"] if layer == "eval" else sorted((ROOT / layer).rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_one_way(layer: str) -> None:
    above = set(LAYERS[LAYERS.index(layer) + 1 :])
    for path in sources(layer):
        assert not imported(ast.parse(path.read_text())) & above, f"{path} imports a layer above it"


def test_caches_need_nothing_but_torch() -> None:
    allowed = {"cache_zoo", "torch", "__future__"}
    standard = set(sys.stdlib_module_names)
    for path in sources("cache_zoo"):
        assert imported(ast.parse(path.read_text())) <= allowed | standard, path


@pytest.mark.parametrize("layer", LAYERS[1:])
def test_no_cache_is_named_above_the_caches(layer: str) -> None:
    names = {info.name for info in describe_all() if info.package is None} - {"none"}
    for path in sources(layer):
        texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not {text for text in texts if isinstance(text, str)} & names, path
