"""Recipes: values of the papers' scripts reach their cells; the command line wins."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from cache_zoo import UsageError
from evaluation.config import command_line
from evaluation.config.command_line import cells, with_recipe
from evaluation.config.recipes import RecipeEntry, as_override, read_recipe, resolve
from evaluation.config.settings import Settings
from generation import GenerationOptions

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
RECIPES = sorted(path.stem for path in (CONFIGS / "recipe").glob("*.yaml"))


def settings(*overrides: str) -> Settings:
    (found,) = cells(list(overrides))
    return found


def at(config: dict[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


DOCUMENTED: list[tuple[str, str, str, str, dict[str, Any]]] = [
    ("llada_official", "llada-base", "gsm8k", "none", {"gen_length": 1024, "block_length": 1024}),
    ("llada_official", "llada-base", "mmlu", "none", {"mc_num": 1, "n_shot": 5}),
    ("llada_official", "llada-base", "hellaswag", "none", {"mc_num": 128, "n_shot": 0, "estimator": "llada"}),
    ("llada_official", "llada-inst", "gsm8k", "none", {"gen_length": 512, "block_length": 512}),
    ("llada_official", "llada-inst", "gsm8k", "none", {"confidence_eos_eot_inf": True, "logits_eos_inf": False}),
    ("llada_official", "llada-inst", "humaneval", "none", {"confidence_eos_eot_inf": False, "logits_eos_inf": True}),
    ("llada_official", "llada-inst", "mbpp", "none", {"gen_length": 256, "block_length": 256}),
    ("llada_official", "llada-1.5", "math-500", "none", {"gen_length": 1024, "block_length": 128}),
    ("llada_official", "llada-1.5", "gsm8k", "none", {"gen_length": 256, "block_length": 16}),
    ("llada_official_blocks", "llada-inst", "gsm8k", "dual", {"gen_length": 256, "block_length": 8}),
    ("llada_official_blocks", "llada-inst", "math-500", "none", {"gen_length": 512, "block_length": 64}),
    ("fast_dllm", "llada-inst", "gsm8k", "dual", {"gen_length": 256, "block_length": 32, "threshold": 0.9}),
    ("fast_dllm", "dream-base", "gsm8k", "prefix", {"threshold": 0.9, "n_shot": 5}),
    ("fast_dllm", "llada-inst", "math-500", "none", {"gen_length": 256, "n_shot": 4}),
    ("fast_dllm", "llada-inst", "humaneval", "none", {"gen_length": 256, "n_shot": 0}),
    ("dllm_cache", "llada-base", "gsm8k", "dllm", {"kp": 100, "kr": 6, "rou": 0.25, "n_shot": 4, "block_length": 256}),
    ("dllm_cache", "llada-inst", "gsm8k", "dllm", {"kp": 50, "kr": 7, "block_length": 8}),
    ("dllm_cache", "llada-inst", "humaneval", "dllm", {"kp": 50, "kr": 8, "gen_length": 512, "block_length": 32}),
    ("dllm_cache", "dream-base", "gsm8k_cot", "dllm", {"kp": 100, "kr": 8, "n_shot": 8, "alg": "entropy"}),
    ("dllm_cache", "dream-inst", "mbpp", "dllm", {"kp": 10, "kr": 8}),
    ("dllm_cache", "llada-inst", "gsm8k", "none", {"gen_length": 256, "block_length": 8, "n_shot": 4}),
    ("d2cache", "llada-inst", "gsm8k", "none", {"gen_length": 256, "block_length": 32}),
    ("d2cache", "llada-base", "humaneval", "none", {"gen_length": 512, "block_length": 512}),
    ("d2cache", "llada-base", "humaneval", "prefix", {"gen_length": 512, "block_length": 32}),
    ("d2cache", "llada-inst", "gsm8k", "d2cache", {"block_length": 256, "generation.sigma": 10.0, "inflate_w": 0}),
    ("d2cache", "llada-inst", "gsm8k", "d2cache", {"current_k": 32, "rollout_p": 0.1, "confidence": "first-step"}),
    ("d2cache", "dream-base", "humaneval", "dllm", {"kp": 5, "kr": 1, "top_p": 0.9}),
    ("d2cache", "llada-base", "gsm8k", "dllm", {"kp": 25, "kr": 5}),
    ("dkv_cache", "llada-inst", "humaneval", "dkv", {"gen_length": 512, "block_length": 32, "cache_steps": 8}),
    ("dkv_cache", "llada-inst", "gsm8k", "dkv_greedy", {"cache_steps": 2, "cache.window": 4, "alg": "random"}),
    ("dkv_cache", "dream-base", "mbpp", "dkv", {"cache_steps": 4, "wrap": True, "block_length": None, "n_shot": 3}),
    ("sparse_dllm", "llada-1.5", "humaneval", "sparse", {"gen_length": 512, "keep_ratio": 0.5, "kernel_size": 3}),
    ("sparse_dllm", "dream-inst", "gsm8k", "sparse", {"gen_length": 256, "first_forward": "first_token"}),
    ("slow_fast", "llada-base", "mbpp", "dllm", {"kp": 5, "kr": 1, "rou": 0.0, "block_length": 256, "n_shot": 3}),
    ("slow_fast", "dream-base", "gsm8k_cot", "none", {"strategy": "slowfast", "rule": "dream", "slow_threshold": 0.8}),
    ("daedal", "llada-1.5", "mbpp", "none", {"strategy": "daedal", "gen_length": 2048, "initial_length": 64}),
    ("daedal", "llada-inst", "gsm8k", "none", {"expansion": 8, "low_threshold": 0.1, "n_shot": 0}),
    ("wino", "llada-inst", "gsm8k", "none", {"strategy": "wino", "threshold": 0.6, "block_length": 128}),
    ("wino", "llada-inst", "mbpp", "none", {"threshold": 0.8, "threshold_back": 0.9, "gen_length": 256}),
    ("elastic_cache", "llada-1.5", "mbpp", "elastic", {"strategy": "window", "generation.window": 16, "eos": "cut"}),
    ("elastic_cache", "dream-inst", "humaneval", "elastic", {"gamma": 0.98, "track_num": 1, "gen_length": 512}),
    ("dyllm", "llada-inst", "gsm8k", "dyllm", {"cache.threshold": 0.99, "full_steps": 4, "block_length": 8}),
    ("dyllm", "dream-inst", "mbpp", "dyllm", {"cache.threshold": 0.995, "alg": "entropy", "stop_until_eos": True}),
    ("adablock", "llada-base", "math-500", "dual", {"delimiters": [198], "delimiter_threshold": 0.3, "n_shot": 4}),
    ("adablock", "dream-inst", "mbpp", "dual", {"first_forward": "first_token", "delimiter_threshold": 0.5}),
    ("adablock", "dream-base", "gsm8k", "none", {"first_forward": "decode", "gen_length": 512, "threshold": 0.9}),
    ("klass", "llada-inst", "gsm8k", "none", {"conf_threshold": 0.6, "kl_threshold": 0.015, "guard": "block"}),
    ("klass", "dream-inst", "math-500", "none", {"conf_threshold": 0.9, "kl_threshold": 0.005, "block_length": None}),
    ("dinfer", "llada-inst", "gsm8k", "vicinity", {"block_length": 64, "threshold": 0.9, "eos": "block"}),
    ("dinfer", "llada-1.5", "mbpp", "vicinity", {"prefix_look": 16, "after_look": 16, "warmup_steps": 4}),
    ("fast_dllm_pp", "llada-inst", "humaneval", "prefix", {"frechet": 0.25, "gen_length": 256, "threshold": None}),
    ("fast_dllm_pp", "dream-base", "gsm8k", "dual", {"frechet": 0.25, "first_forward": "first_token", "n_shot": 5}),
]
USUAL = {"model": "", "dataset": "", "cache": "none", "suffix": "all", "generation": "vanilla"}
GROUPS = {"n_shot": "dataset", "mc_num": "likelihood", "estimator": "likelihood"}
GROUPS |= dict.fromkeys(("kp", "kr", "rou", "rollout_p", "current_k", "inflate_w", "confidence"), "cache")
GROUPS |= dict.fromkeys(("cache_steps", "wrap", "keep_ratio", "kernel_size", "gamma", "track_num"), "cache")
GROUPS |= dict.fromkeys(("full_steps", "prefix_look", "after_look", "warmup_steps"), "cache")


PRUNED: list[tuple[str, str, str, str, dict[str, Any]]] = [
    ("streaming_dllm", "llada-1.5", "gsm8k", "window", {"suffix.window": 96, "generation.alpha": 0.4}),
    (
        "streaming_dllm",
        "dream-base",
        "mbpp",
        "window",
        {"suffix.window": 192, "generation.first_forward": "first_token"},
    ),
    ("dpad", "llada-inst", "mbpp", "dropout", {"suffix.sigma": 3, "suffix.scale": 2.3, "suffix.window": 128}),
    ("dpad", "dream-base", "gsm8k", "dropout", {"suffix.scale": 1.6, "suffix.window": 256, "generation.eos": "block"}),
]


@pytest.mark.parametrize(("recipe", "model", "dataset", "suffix", "expected"), PRUNED, ids=str)
def test_recipes_set_a_suffix_rule_where_it_is_chosen(
    recipe: str, model: str, dataset: str, suffix: str, expected: dict[str, Any]
) -> None:
    cell = [
        f"+recipe={recipe}",
        f"model={model}",
        f"dataset.name={dataset}",
        "cache=prefix",
        "generation.gen_length=512",
    ]
    whole, pruned = cells([*cell, f"suffix=all,{suffix}"], sweep=True)
    for key, value in expected.items():
        assert at(pruned.config, key) == value, key
    assert whole.suffix.label == "all"
    assert whole.generation == pruned.generation
    assert whole.baseline == pruned.baseline


@pytest.mark.sampled(9)
@pytest.mark.parametrize(("recipe", "model", "dataset", "cache", "expected"), DOCUMENTED, ids=str)
def test_recipes_resolve_to_the_documented_values(
    recipe: str, model: str, dataset: str, cache: str, expected: dict[str, Any]
) -> None:
    found = settings(f"+recipe={recipe}", f"model={model}", f"dataset.name={dataset}", f"cache={cache}")
    for key, value in expected.items():
        where = key if "." in key else f"{GROUPS.get(key, 'generation')}.{key}"
        assert at(found.config, where) == value, where
    assert found.config["recipe"]["name"] == recipe
    assert found.config["recipe"]["source"]
    assert found.generation.steps is None
    assert found.generation.num_transfer_tokens == 1


@pytest.mark.sampled(6)
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_entry_of_a_recipe_can_be_used(recipe: str) -> None:
    """Resolved for every cell that an entry names, without composing a configuration for each."""
    configs: dict[tuple[str, ...], dict[str, Any]] = {}
    found = read_recipe(CONFIGS, recipe)
    usual = USUAL | found.method
    for entry in found.entries:
        assert {"model", "dataset"} <= set(entry.when)
        for cell in product(*(entry.when.get(axis, (usual[axis],)) for axis in usual)):
            names = dict(zip(usual, cell, strict=True))
            assert (CONFIGS / "model" / f"{names['model']}.yaml").is_file()
            named = {axis: {"strategy" if axis == "generation" else "name": name} for axis, name in names.items()}
            values = resolve(recipe, found, named)
            assert entry.source in values.pop("recipe.source")
            assert values.pop("recipe.name") == recipe
            method = tuple(f"{axis}={names[axis]}" for axis in ("cache", "suffix", "generation"))
            config = configs.get(method) or settings(*method).config
            configs[method] = config
            for key in values:
                at(config, key)  # it is there to be set
            options = {key.partition(".")[2]: value for key, value in values.items() if key.startswith("generation.")}
            GenerationOptions.make(**{**config["generation"], **options})


def test_a_recipe_names_its_method_and_the_command_line_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in CONFIGS.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "recipe").unlink()
    (tmp_path / "recipe").mkdir()
    entry = "entries: [{when: {model: m*, dataset: gsm8k, generation: window}, set: {generation.window: 4}, source: s}]"
    text = "method: {cache: elastic, generation: window, suffix: window}\n" + entry.replace("m*", "llada-*")
    (tmp_path / "recipe" / "mine.yaml").write_text(text)
    monkeypatch.setattr(command_line, "CONFIGS", tmp_path)
    found = settings("+recipe=mine", "model=llada-inst")
    assert (found.cache.label, found.suffix.label, found.generation.strategy) == ("elastic", "window", "window")
    assert found.generation.parameters == {"window": 4}
    given = settings("+recipe=mine", "model=llada-inst", "cache=dual", "suffix=all", "generation.window=8")
    assert (given.cache.label, given.suffix.label, given.generation.parameters) == ("dual", "all", {"window": 8})
    with pytest.raises(UsageError, match=r"has nothing for .*generation=vanilla"):
        settings("+recipe=mine", "model=llada-inst", "generation=vanilla")


def test_the_command_line_wins() -> None:
    given = ["generation.gen_length=64", "generation.block_length=16", "cache.kp=3", "dataset.n_shot=null"]
    found = settings("+recipe=dllm_cache", "model=llada-inst", "cache=dllm", *given)
    assert (found.generation.gen_length, found.generation.block_length) == (64, 16)
    assert found.cache.parameters == {"kp": 3, "kr": 7, "rou": 0.25}
    assert found.dataset.n_shot is None
    assert settings(*given, "cache=dllm", "model=llada-inst", "+recipe=dllm_cache").config == found.config


def test_a_recipe_is_its_values_written_out() -> None:
    overrides = ["+recipe=fast_dllm", "cache=dual"]
    written = with_recipe(overrides)
    assert "generation.threshold=0.9" in written
    assert written[-1] == "cache=dual"
    assert settings(*written).config == settings(*overrides).config
    values = [one for one in written if not one.startswith("+recipe.")]
    assert settings(*values).run_name == settings(*overrides).run_name


def test_each_cell_of_a_sweep_gets_its_own_values() -> None:
    sweep = ["+recipe=d2cache", "model=llada-inst,llada-base", "cache=none,d2cache", "dataset.name=gsm8k,humaneval"]
    lengths = [(one.generation.gen_length, one.generation.block) for one in cells(sweep, sweep=True)]
    assert lengths == [(256, 32), (512, 32), (256, 256), (512, 512), (256, 256), (512, 512), (256, 256), (512, 512)]
    both = cells(["+recipe=d2cache,fast_dllm"], sweep=True)
    assert [one.generation.threshold for one in both] == [None, 0.9]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+recipe=fast_dlm"], "unknown recipe 'fast_dlm': did you mean 'fast_dllm'?"),
        (["recipe=fast_dllm"], "give +recipe=NAME once"),
        (["+recipe=fast_dllm", "+recipe=d2cache"], "give +recipe=NAME once"),
        (
            ["+recipe=fast_dllm", "dataset=nano-gsm"],
            "has nothing for model=llada-inst, dataset=nano-gsm, cache=none, suffix=all, generation=vanilla; it has "
            "llada-inst: gsm8k",
        ),
        (["+recipe=d2cache", "model=llada-1.5"], "has nothing for model=llada-1.5"),
        (["+recipe=d2cache", "cache=d3cache"], "did you mean 'd2cache'?"),
        (["+recipe=fast_dllm", "generation.treshold=0.8"], "did you mean 'generation.threshold'?"),
        (["+recipe=fast_dllm", "generation.factor=1.0"], "two rules for the same choice"),
    ],
)
def test_mistakes_with_recipes_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings(*overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("entry: []", "must hold a list named 'entries'"),
        ("entries: [{when: {model: m}, set: {}}]", "entry 1 must have when, set and source"),
        ("entries: {", "can't be read: "),
        ("method: [dual]\nentries: []", "'method' must hold choices, not ['dual']"),
        ("method: {cash: dual}\nentries: []", "unknown part of a method 'cash': did you mean 'cache'?"),
        ("entries: 5", "must hold a list named 'entries'"),
        ("entries: [5]", "entry 1 must have when, set and source"),
        ("entries: [{when: null, set: {}, source: s}]", "entry 1: 'when' must hold keys and values, not None"),
        ("entries: [{when: {}, set: [1], source: s}]", "entry 1: 'set' must hold keys and values, not [1]"),
        ("entries: [{when: {modl: m}, set: {}, source: s}]", "unknown axis 'modl': did you mean 'model'?"),
    ],
)
def test_malformed_recipes_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_recipe(tmp_path, "mine")
    assert message in str(caught.value)


def test_entries_hold_by_name_or_pattern() -> None:
    entry = RecipeEntry({"model": ("llada-*",), "dataset": ("gsm8k", "mmlu*")}, {}, "")
    assert entry.holds({"model": "llada-inst", "dataset": "mmlu_anatomy", "cache": "any"})
    assert not entry.holds({"model": "dream-inst", "dataset": "gsm8k", "cache": "any"})
    assert not entry.holds({"model": "llada-inst", "dataset": "gsm8k_cot", "cache": "any"})


def test_overrides_quote_what_they_must() -> None:
    assert as_override("generation.threshold", None) == "generation.threshold=null"
    assert as_override("recipe.source", ["it's", 1]) == r"+recipe.source=['it\'s',1]"
