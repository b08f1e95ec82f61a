"""Runs are told apart by meaning: spellings of one setting are one run; a change that affects answers is another."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from cache_zoo import UsageError, caches, make_cache
from cache_zoo.methods.prefix import PrefixCache
from cache_zoo.registry import suffixes
from evaluation.config import identity
from evaluation.config.command_line import cells
from evaluation.config.identity import NEUTRAL, config_hash, counted, is_baseline, run_name, setting
from evaluation.config.settings import DatasetSettings, Settings
from evaluation.config.task_names import OWN_FOLDER
from evaluation.config.task_table import OWN_TASKS
from evaluation.tasks.scorers import SCORERS
from generation.options import RULES
from generation.strategies.registry import strategies
from models.nano.data import ITEMS

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
NANO = ("model=nano-llada", "dataset=nano-gsm", "generation.gen_length=64")


def settings(*overrides: str) -> Settings:
    (found,) = cells(list(overrides))
    return found


BASE = settings(*NANO)
PLAIN = BASE.config


def changed(*keys: tuple[str, Any]) -> dict[str, Any]:
    config = copy.deepcopy(PLAIN)
    for key, value in keys:
        group, _, name = key.partition(".")
        if name:
            config[group][name] = value
        else:
            config[group] = value
    return config


SAME: list[tuple[str, ...]] = [
    ("attn_implementation=eager",),
    ("attn_implementation=sdpa", "output_dir=elsewhere", "jobs=2", "force=true", "retry=[oom]", "trace=true"),
    ("sandbox_disable=[seccomp]",),
    ("allow_code_execution=true",),  # nothing of nano-gsm is run
    ("generation.sigma=0",),
    ("generation.sigma=0.0",),
    ("generation.top_p=1",),
    ("generation.top_p=1.0",),
    ("generation.temperature=0",),
    ("generation.steps=64",),
    ("generation.logits_eos_inf=false",),
    ("dataset.n_shot=4",),
    ("dataset.system_prompt=''",),
    ("likelihood.estimator=llada",),
    ("model.family=null",),
    ("model.path=nano-llada",),
    ("model.path=./models/nano/llada/",),
    (f"model.path={ROOT}/models/nano/llada",),
    (f"model.path={ROOT}/models/../models/nano/llada",),
    ("model.device=cpu", "model.dtype=float32"),
    ("model.dtype=torch.float32",),
    ("+cache._target_=cache_zoo.methods.none.NoCache",),
    ("suffix=all", "store=native"),
    ("+suffix._target_=cache_zoo.suffixes.all.AllSuffix",),
    ("generation.schedule=even", "generation.eps=0.5"),
    ("generation.debias_clip=3",),
    ("generation.alpha=0", "generation.alg_temp=0", "generation.cfg_scale=0.0"),
    ("generation.first_forward=decode", "generation.eos=null", "generation.factor_rule=with_last"),
    (f"include_path={ROOT}/tests",),
]


@pytest.mark.sampled(6)
@pytest.mark.parametrize("overrides", SAME, ids=str)
def test_spellings_of_a_run_are_one_run(overrides: tuple[str, ...]) -> None:
    found = settings(*NANO, *overrides)
    assert found.run_name == BASE.run_name
    assert setting(found.config) == setting(PLAIN)


PAIRS: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("generation.block_length=null",), ("generation.block_length=64",)),
    (("generation.steps=16",), ("generation.num_transfer_tokens=4",)),
    (("generation.steps=2",), ("generation.num_transfer_tokens=32",)),
    (("generation.num_transfer_tokens=32", "generation.threshold=0.9"), ("generation.num_transfer_tokens=32",)),
    (("generation.num_transfer_tokens=32", "generation.sigma=3"), ("generation.num_transfer_tokens=32",)),
    (("generation.alg=random", "generation.top_p=0.5", "generation.top_k=3"), ("generation.alg=random",)),
    (("generation.logits_eos_inf=true", "generation.stop_until_eos=true"), ("generation.logits_eos_inf=true",)),
    (("dataset.system_prompt=Think.",), ("model.system_prompt=Think.",)),
    (("dataset.system_prompt=A", "model.system_prompt=B"), ('model.system_prompt="A\n\nB"',)),
    (("model.stop_words=[a,b,a]",), ("model.stop_words=[b,a]",)),
    (("model.end_tokens=[a,b]",), ("model.end_tokens=[b,a]",)),
    (("cache=prefix", "cache.use_dual=true"), ("cache=dual",)),
    (("+cache._target_=cache_zoo.methods.prefix.PrefixCache", "+cache.use_dual=true"), ("cache=dual",)),
    (("+cache._target_=cache_zoo.methods.dllm.DLLMCache", "+cache.kr=4"), ("cache=dllm", "cache.kr=4")),
    (("+cache._target_=tests.test_identity.PrefixCache", "+cache.use_dual=true"), ("cache=dual",)),
    (("cache.name=dllm",), ("cache=dllm",)),
    (("cache=d2cache", "cache.sigma=10"), ("cache=d2cache",)),
    (("seed=7", "generation.temperature=1"), ("seed=7", "generation.temperature=1.0")),
    (("generation.threshold=1",), ("generation.threshold=1.0",)),
    (("suffix=window",), ("suffix=window", "suffix.window=32")),
    (
        ("+suffix._target_=cache_zoo.suffixes.window.WindowSuffix", "+suffix.window=8"),
        ("suffix=window", "suffix.window=8"),
    ),
    (("generation=window",), ("generation=window", "generation.window=16")),
    (("generation=window",), ("generation.strategy=window", "generation.block_length=null")),
    (("generation.logits_eos_inf=true", "generation.eos=block"), ("generation.logits_eos_inf=true",)),
    (
        ("generation.num_transfer_tokens=32", "generation.threshold=0.9", "generation.alpha=0.3"),
        ("generation.num_transfer_tokens=32",),
    ),
]


@pytest.mark.sampled(6)
@pytest.mark.parametrize(("one", "other"), PAIRS, ids=str)
def test_two_spellings_that_are_one_run(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    first, second = settings(*NANO, *one), settings(*NANO, *other)
    assert first.run_name == second.run_name
    assert setting(first.config) == setting(second.config)
    assert first.run_name != BASE.run_name
    assert first.cache == second.cache


DIFFERENT = [
    "generation.block_length=16",
    "generation.num_transfer_tokens=3",
    "generation.threshold=0.9",
    "generation.factor=0.9",
    "generation.sigma=3",
    "generation.top_p=0.9",  # shapes confidences at temperature 0, too
    "generation.top_k=5",
    "generation.temperature=0.5",
    "generation.alg=entropy",
    "generation.alg=ar",
    "generation.frechet=0.25",
    "generation.gamma=0.01",
    "generation.stop_until_eos=true",
    "generation.confidence_eos_eot_inf=true",
    "generation.first_forward=first_token",
    "generation.cfg_scale=1",
    "generation.eos=block",
    "generation=window",
    "generation=sliding",
    "dataset.size=3",
    "dataset.n_shot=3",
    "model.add_bos=true",
    "model.stop_words=[a]",
    "model.system_prompt=A",
    "model.dtype=bfloat16",
    "model.path=models/nano/dream",
    "likelihood.mc_num=1",
    "batch_size=2",
    "seed=1",
]


def test_the_folder_above_a_link_is_not_the_one_it_lies_in(tmp_path: Path) -> None:
    (tmp_path / "far" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "below")
    for key in ("dataset.path", "model.path"):
        here, there = (settings(*NANO, f"{key}={tmp_path}/{way}m") for way in ("", "link/../"))
        assert here.run_name != there.run_name


@pytest.mark.sampled(6)
@pytest.mark.parametrize("part", range(6))
def test_what_changes_a_run_is_another_run(part: int) -> None:
    found = {override: settings(*NANO, override).config for override in DIFFERENT[part::6]}
    assert len({config_hash(one) for one in (PLAIN, *found.values())}) == len(found) + 1
    for override, config in found.items():
        assert setting(config) != setting(PLAIN), override


METHODS = {
    (): "none",
    ("cache=dual",): "dual",
    ("suffix=window",): "none+window",
    ("suffix=window", "suffix.window=8"): "none+window",
    ("cache=dual", "store=int8"): "dual+int8",
    ("cache=dual", "suffix=dropout", "store=fp8"): "dual+dropout+fp8",
}


def test_cache_suffix_and_store_are_the_method_of_one_setting() -> None:
    found = {overrides: settings(*NANO, *overrides) for overrides in METHODS}
    assert len({one.config_hash for one in found.values()}) == len(METHODS)
    for overrides, one in found.items():
        assert one.run_name == f"nano-llada__{METHODS[overrides]}__vanilla__nano-gsm__{one.config_hash}"
        assert setting(one.config) == setting(PLAIN)
        assert one.baseline == BASE
        assert one.is_baseline == is_baseline(one.config) == (not overrides)


def test_steps_of_other_schedules_are_not_a_number_of_tokens() -> None:
    steps = ("generation.steps=16", "generation.schedule=dream")
    dream = settings(*NANO, *steps)
    assert counted(dream.config)["generation.steps"] == 16
    assert dream.run_name != settings(*NANO, "generation.steps=16").run_name
    assert dream.run_name != settings(*NANO, *steps, "generation.eps=0.5").run_name


def test_a_run_that_is_older_than_the_method_keeps_its_name() -> None:
    config = copy.deepcopy(PLAIN)
    for key in ("suffix", "store"):
        del config[key]
    again = Settings.from_config(config)
    assert (again.run_name, again.suffix, again.store) == (BASE.run_name, BASE.suffix, "native")


def test_an_uneven_schedule_is_another_run() -> None:
    uneven = changed(("generation.steps", 44))  # 22 forwards per block of 32: 2, 2, ..., 1
    assert counted(uneven)["generation.steps"] == 44


def test_code_that_may_be_run_counts_where_it_is_the_score() -> None:
    code = ("model=nano-llada", "dataset=nano-code")
    assert settings(*code, "allow_code_execution=true").run_name != settings(*code).run_name
    assert setting(settings(*code, "allow_code_execution=true").config) == setting(settings(*code).config)


def test_a_third_party_strategy_may_read_its_options_differently() -> None:
    mine = changed(("generation.strategy", "mine"))
    also = changed(("generation.strategy", "mine"), ("generation.steps", 64))
    assert counted(mine) != counted(also)


def test_the_place_of_the_data_is_compared_by_digest() -> None:
    here = settings(*NANO, f"dataset.path={ITEMS / 'gsm'}")
    assert here.run_name != BASE.run_name  # the content of the folder is not read
    assert setting(here.config) == setting(PLAIN)
    assert here.run_name == settings(*NANO, f"dataset.path={ITEMS}/./gsm/").run_name


def test_a_missing_key_is_its_neutral_value() -> None:
    """As in runs older than the key."""
    for key in NEUTRAL:
        group, _, name = key.partition(".")
        config = copy.deepcopy(PLAIN)
        (config[group] if name else config).pop(name or group)
        assert config_hash(config) == config_hash(PLAIN), key
        assert run_name(config)


def test_neutral_values_are_the_defaults() -> None:
    for key, value in NEUTRAL.items():
        if not key.startswith("model."):
            group, _, name = key.partition(".")
            assert (PLAIN[group][name] if name else PLAIN[group]) == value, key


def test_names_for_parameters_of_a_class_stand_for_them() -> None:
    found = {entry.name: caches.get(entry.name) for entry in caches.usable()}
    for name, cls in found.items():
        for other, parameters in vars(cls).get("also_called", {}).items():
            assert issubclass(found[other], cls)
            assert vars(make_cache(other)) == vars(make_cache(name, **parameters))


class Heir(PrefixCache):
    """A third-party class with the parameters of its base."""


def test_such_names_are_not_inherited() -> None:
    cache = settings(*NANO, "+cache._target_=tests.test_identity.Heir", "+cache.use_dual=true").cache
    assert (cache.label, cache.parameters) == ("Heir", {"use_dual": True})


def test_the_tasks_of_the_package_are_known() -> None:
    assert list(OWN_TASKS) == list(SCORERS)
    assert set(OWN_TASKS) == {"gsm8k", *(file.stem for file in OWN_FOLDER.glob("*.yaml"))}
    assert all(scorer.runs_code == (scorer.execute is not None) for scorer in SCORERS.values())
    assert all(set(scorer.needs) <= set(scorer.columns) for scorer in SCORERS.values())


@pytest.mark.sampled(4)
@pytest.mark.parametrize("cache", caches.names())
def test_every_cache_is_a_choice(cache: str) -> None:
    made = settings(*NANO, f"cache={cache}", "generation.block_length=16")
    assert made.config["cache"] == {"name": cache, **made.cache.parameters}


@pytest.mark.parametrize("suffix", suffixes.names())
def test_every_suffix_rule_is_a_choice(suffix: str) -> None:
    made = settings(*NANO, f"suffix={suffix}")
    assert made.config["suffix"] == {"name": suffix, **made.suffix.parameters}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("strategy", strategies.names())
def test_every_strategy_is_a_choice(strategy: str) -> None:
    own = {key: value for key, value in strategies.parameters(strategy).items() if key != "options"}
    made = settings(*NANO, f"generation={strategy}")
    assert made.axes["generation"] == strategy
    assert {key: made.config["generation"][key] for key in own} == own


def test_examples_of_the_tasks(tmp_path: Path) -> None:
    for name, task in OWN_TASKS.items():
        file = OWN_FOLDER / f"{name}.yaml"
        if file.is_file():
            lines = [line for line in file.read_text().splitlines() if line.startswith(("num_fewshot:", "include:"))]
            own = [int(line.split(":")[1]) for line in lines if line.startswith("num_fewshot")]
            assert (
                own == [task.shots] or OWN_TASKS[lines[0].split(": ")[1].removesuffix(".yaml")].shots == task.shots
            ), name
    from evaluation.tasks.loading import load_task

    for split in ("train", "test"):
        rows = '{"question": "1 + 1?", "answer": "It is 2.\\n#### 2"}\n' * 5
        (tmp_path / f"{split}.jsonl").write_text(rows)
    gsm8k = load_task(DatasetSettings("gsm8k", str(tmp_path), None, None, None), 1).loaded["tasks"]["gsm8k"]
    assert gsm8k.get_config("num_fewshot") == OWN_TASKS["gsm8k"].shots


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("generation.sigma", float("nan")),
        ("generation.threshold", float("inf")),
        ("seed", 10**4000),
        ("batch_size", {1, 2}),
        ("dataset", object()),
        ("cache.deep", [[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]),
        ("model.name", b"bytes"),
    ],
    ids=lambda value: str(value).partition(" at ")[0][:30],
)
def test_what_no_configuration_can_hold_is_one_error(key: str, value: Any) -> None:
    for function in (counted, setting, config_hash, run_name):
        with pytest.raises(UsageError, match=key):
            function(changed((key, value)))


@pytest.mark.parametrize("value", [None, True, -1, 0, 3.5, "x", "\ud800", [], {}, ["a", 1], {"a": {"b": 1}}, {3: 4}])
def test_odd_values_are_no_error(value: Any) -> None:
    """Untrusted files may hold anything anywhere; other code checks whether it is usable."""
    flat = [(f"{group}.{name}", value) for group in PLAIN if isinstance(PLAIN[group], dict) for name in PLAIN[group]]
    for key, odd in [*flat, *((group, value) for group in PLAIN)]:
        config = changed((key, odd))
        assert run_name(config)
        assert isinstance(setting(config), dict)
    with pytest.raises(UsageError, match="keys and values"):
        counted([])


def test_a_saved_configuration_is_that_of_its_folder() -> None:
    made = settings(*NANO, "cache=dllm", "cache.kr=3")
    again = yaml.safe_load(yaml.safe_dump(made.config))
    assert run_name(again) == made.run_name
    assert Settings.from_config(again).run_name == made.run_name


def test_the_rules_are_those_of_the_options() -> None:
    assert identity._RULES == RULES
