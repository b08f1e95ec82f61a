"""Names, parameters and plug-ins."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cache_zoo import Cache, UsageError, caches, describe, describe_all, list_caches, make_cache


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
        ("vicinity", {"prefix_look": 16, "after_look": 16, "warmup_steps": 4}),
        ("dsb", {"prefix_window": 24, "suffix_window": 0}),
        ("freecache", {"freeze_after_write": False}),
        ("dkv", {"cache_steps": 8, "variant": "decode", "shift_type": "un", "wrap": False}),
        ("dkv_greedy", {"cache_steps": 2, "window": 4}),
        ("sparse", {"keep_ratio": 0.5, "kernel_size": 3, "ties": "lowest"}),
        ("maskkv", {"budget": 256, "alpha": 0.5, "beta": 0.5}),
        ("entropy", {"threshold": 0.05, "recent_k": 16}),
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
        ("d2cache", {"sigma": 0}, "'sigma' must be 0.001 to 100,000"),
        ("d2cache", {"sigma": 1e-200}, "'sigma' must be 0.001 to 100,000"),
        ("d2cache", {"sigma": 1e200}, "'sigma' must be 0.001 to 100,000"),
        ("d2cache", {"inflate_w": -1}, "'inflate_w' must not be negative"),
        ("d2cache", {"confidence": "life"}, r"did you mean 'live'\?"),
        ("dllm", {"kp": "many"}, "cache 'dllm' can't be made: parameter 'kp' must be a whole number, not 'many'"),
        ("dllm", {"kp": True}, "'kp' must be a whole number, not True"),
        ("dllm", {"kp": 2.5}, "'kp' must be a whole number, not 2.5"),
        ("dllm", {"kp": None}, "cache 'dllm' can't be made: parameter 'kp' must be a whole number, not None"),
        ("d2cache", {"current_k": 1.5}, "'current_k' must be a whole number, not 1.5"),
        ("prefix", {"use_dual": "maybe"}, "'use_dual' must be true or false, not 'maybe'"),
        ("prefix", {"use_dual": 2}, "'use_dual' must be true or false, not 2"),
        ("nowhere:Nothing", {}, "can't be imported"),
        ("tests.odd_caches:Asserts", {}, "can't be made from {}: AssertionError"),
        ("tests.odd_caches:Exits", {}, "can't be made from {}: 3"),
        ("tests.odd_caches:Looks", {"every": 2}, "can't be made from {'every': 2}: 2"),
        ("tests.exiting:Cache", {}, "can't be imported: SystemExit"),
        ("pathlib:Path", {}, "is not a cache"),
    ],
)
def test_bad_names_and_parameters_are_named(name: str, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_cache(name, **parameters)


def test_a_class_can_be_named_by_its_place() -> None:
    assert isinstance(make_cache("cache_zoo.methods.dllm:DLLMCache", kp=3), Cache)


PLUGIN = """
from cache_zoo import KVCache


class Mine(KVCache):
    \"\"\"Does ``nothing`` new,
    in two lines.

    Args:
        width: how wide,
            in positions.
        depth: how deep.

    More.
    \"\"\"

    paper = "Mine, arXiv:2401.00001v2, and https://example.org/a, (arXiv 2401.12345)"
    exact_with = {"width": 1}

    def __init__(self, width=3, depth=None, *, sure=True, **others):
        if width < 1:
            raise ValueError(f"width {width} is below 1")
        self.width = width


class Demanding(KVCache):
    def __init__(self, width):
        pass
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package with two caches, and broken entries of each kind."""
    (tmp_path / "my_plugin_cache.py").write_text(PLUGIN)
    (tmp_path / "my_plugin_exploding.py").write_text("1 / 0\n")
    entries = {
        "mine": "my_plugin_cache:Mine",
        "demanding": "my_plugin_cache:Demanding",
        "dual": "my_plugin_cache:Mine",
        "missing": "my_missing_module:Cache",
        "exploding": "my_plugin_exploding:Cache",
        "nothing": "my_plugin_cache:Nothing",
        "path": "pathlib:Path",
    }
    for package, chosen in (("my-plugin", entries), ("other", {"mine": "my_plugin_cache:Demanding"})):
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {target}" for name, target in chosen.items()]
        (info / "entry_points.txt").write_text("\n".join(["[cache_zoo.caches]", *lines]) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("my_plugin_cache", None)


BROKEN = {
    "dual": "the name 'dual' is taken by cache-zoo",
    "exploding": "can't be imported: ZeroDivisionError: division by zero",
    "missing": "can't be imported: ModuleNotFoundError: No module named 'my_missing_module'",
    "nothing": "has no attribute 'Nothing'",
    "path": "is not a cache",
    "mine": "the name 'mine' is taken by my-plugin 1.0",
}


def test_an_installed_package_adds_caches_and_broken_ones_only_warn(plugin: None) -> None:
    with pytest.warns(RuntimeWarning, match="plug-in left out") as caught:
        names = list_caches()
    assert {"mine", "demanding"} <= set(names)
    assert names[:5] == ["none", "prefix", "dual", "dllm", "d2cache"]
    assert len(names) == len(set(names))
    said = [str(warning.message) for warning in caught]
    for name, reason in BROKEN.items():
        assert any(f"'{name}' of " in message and reason in message for message in said), said
    made = make_cache("mine", width=5)
    assert made.width == 5  # type: ignore[attr-defined]
    assert type(make_cache("dual")).__module__ == "cache_zoo.methods.dual"
    for name in ("exploding", "missing"):
        with pytest.raises(UsageError, match="can't be imported"):
            make_cache(name)


def test_what_a_class_raises_for_a_value_is_an_error_of_the_user(plugin: None) -> None:
    with pytest.raises(UsageError, match=r"'mine' can't be made from \{'width': 0\}: width 0 is below 1"):
        make_cache("mine", width=0)


def test_a_description_says_what_the_class_says(plugin: None) -> None:
    info = describe("mine")
    assert (info.summary, info.error) == ("Does `nothing` new, in two lines.", None)
    assert info.urls == (
        "https://arxiv.org/abs/2401.00001",
        "https://example.org/a",
        "https://arxiv.org/abs/2401.12345",
    )
    assert [(one.name, one.default, one.required, one.text) for one in info.parameters] == [
        ("width", 3, False, "how wide, in positions."),
        ("depth", None, False, "how deep."),
        ("sure", True, False, ""),
    ]
    assert list(map(str, info.parameters)) == ["width=3", "depth=null", "sure=true"]
    assert info.capabilities == ["exact with width=1"]
    assert (info.package, info.version, info.origin) == ("my-plugin", "1.0", "my-plugin 1.0")
    json.dumps(info.as_dict())

    demanding = describe("demanding")
    assert (demanding.summary, demanding.paper, demanding.urls, demanding.capabilities) == ("", "", (), [])
    assert [(one.name, one.required, str(one)) for one in demanding.parameters] == [("width", True, "width")]


def test_descriptions_of_what_cannot_be_used_have_the_reason(plugin: None) -> None:
    errors = {info.name: info.error for info in describe_all() if info.error is not None}
    assert set(errors) == set(BROKEN)
    for name, reason in BROKEN.items():
        assert reason in str(errors[name])
    with pytest.raises(UsageError, match=r"unknown cache 'mien': did you mean 'mine'\?"):
        describe("mien")


def test_capabilities_of_the_built_in_caches_are_in_words() -> None:
    assert describe("none").capabilities == ["exact"]
    assert describe("dual").capabilities == [
        "needs block_length < gen_length",
        "exact where a block takes one forward",
    ]
    assert describe("d2cache").capabilities[0] == "needs attention weights"
