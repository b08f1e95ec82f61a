"""Names, parameters and plug-ins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cache_zoo import Cache, UsageError, caches, list_caches, make_cache


def test_the_built_in_caches_are_listed() -> None:
    assert list_caches()[:5] == ["none", "prefix", "dual", "dllm", "d2cache"]


@pytest.mark.parametrize(
    ("name", "defaults"),
    [
        ("none", {}),
        ("prefix", {"use_dual": False}),
        ("dual", {}),
        ("dllm", {"kp": 50, "kr": 2, "rou": 0.25}),
        ("d2cache", {"rollout_p": 0.1, "current_k": 32, "sigma": 10.0, "inflate_w": 4, "confidence": "live"}),
    ],
)
def test_parameters_and_defaults(name: str, defaults: dict[str, object]) -> None:
    assert caches.parameters(name) == defaults


def test_objects_are_never_shared() -> None:
    assert make_cache("dual") is not make_cache("dual")


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("d3cache", {}, r"unknown cache 'd3cache': did you mean 'd2cache'\? Valid choices: .*none"),
        (
            "d2cache",
            {"rollour_p": 0.1},
            r"parameter 'rollour_p' of cache 'd2cache': did you mean 'rollout_p'\?",
        ),
        ("dllm", {"kp": 0}, "'kp' must be at least 1"),
        ("dllm", {"kr": 0}, "'kr' must be at least 1"),
        ("dllm", {"rou": 1.5}, "'rou' must be between 0 and 1, not 1.5"),
        ("d2cache", {"rollout_p": 2}, "'rollout_p' must be between 0 and 1"),
        ("d2cache", {"current_k": 0}, "'current_k' must be at least 1"),
        ("d2cache", {"sigma": 0}, "'sigma' must be above 0"),
        ("d2cache", {"inflate_w": -1}, "'inflate_w' must not be negative"),
        ("d2cache", {"confidence": "life"}, r"did you mean 'live'\?"),
        ("dllm", {"kp": "many"}, "cache 'dllm' can't be made from"),
        ("nowhere:Nothing", {}, "can't be imported"),
        ("pathlib:Path", {}, "is not a cache"),
    ],
)
def test_bad_names_and_parameters_are_named(name: str, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_cache(name, **parameters)


def test_a_class_can_be_named_by_its_place() -> None:
    assert isinstance(make_cache("cache_zoo.dllm:DLLMCache", kp=3), Cache)


def test_an_installed_package_adds_caches_and_a_broken_one_only_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_plugin_cache.py").write_text(
        "from cache_zoo import KVCache\n\n\n"
        "class Mine(KVCache):\n    paper = 'mine'\n\n    def __init__(self, width=3):\n"
        "        self.width = width\n"
    )
    info = tmp_path / "my_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[cache_zoo.caches]\nmine = my_plugin_cache:Mine\nbroken = my_missing_module:Cache\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.warns(RuntimeWarning, match=r"plug-in left out: .*my_missing_module"):
        names = list_caches()
    assert names[-1] == "mine"
    assert "broken" not in names
    made = make_cache("mine", width=5)
    assert made.width == 5  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="can't be imported"):
        make_cache("broken")
    sys.modules.pop("my_plugin_cache", None)
