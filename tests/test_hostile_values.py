"""Every key of the configuration with absurd values: a readable error, or a usable value."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cache_zoo import UsageError
from evaluation.config.command_line import cells
from evaluation.config.settings import Settings
from generation.options import MAX_SEED, MAX_TOKENS, GenerationOptions
from tests.small_runs import CONFIGS

BASE = ["model=nano-llada", "dataset=nano-gsm"]
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "a word": "x",
    "empty": "",
    "negative": -1,
    "zero": 0,
    "huge": 99_999_999_999,
    "beyond 64 bits": 10**30,
    "thousands of digits": 10**4000,
    "a fraction": 1.5,
    "tiny": 1e-300,
    "enormous": 1e308,
    "NaN": math.nan,
    "infinite": -math.inf,
    "a list": [1, 2],
    "a list with NaN": [math.nan],
    "a list of an empty text": [""],
    "a mapping": {"a": 1},
    "a parent": "..",
    "hidden": ".hidden",
    "slashes": "a/b\\c",
    "NUL": "a\0b",
    "a code for terminals": "\x1b[31m",
    "half a surrogate": "\ud83d",
    "300 letters": "x" * 300,
    "missing": "???",
}
USABLE = {  # what is left of the above, where a value of such a kind has a meaning
    "seed": ["zero"],
    "trace": ["true", "zero", "a list"],
    "model.name": ["a word"],
    "dataset.name": ["a word"],  # and tasks where there is a list of them
    "generation.threshold": ["null", "zero", "tiny"],
    "generation.factor": ["null", "huge", "a fraction", "tiny", "enormous"],
    "generation.sigma": ["null", "zero", "a fraction"],
    "generation.temperature": ["zero", "a fraction"],
    "generation.top_p": ["null", "tiny"],
    "dataset.n_shot": ["null", "zero"],
}
PATHS = ["a word", "a parent", "hidden", "slashes"]
PROMPTS = ["null", "a word", "empty", "a parent", "hidden", "slashes", "300 letters"]


def keys() -> list[str]:
    """All keys of eval.yaml and of a choice of each group but caches, which check their own."""

    def walk(node: dict[str, Any], prefix: str) -> list[str]:
        found = []
        for key, value in node.items():
            if key not in ("defaults", "hydra"):
                found += walk(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
        return found

    files = {
        "": "eval",
        "model.": "model_base",
        "generation.": "generation/vanilla",
        "dataset.": "dataset/nano-gsm",
    }
    return [
        key
        for prefix, file in files.items()
        for key in walk(OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{file}.yaml"), resolve=False), prefix)
    ]


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    """The configuration of a cell as hydra gives it."""
    (cell,) = cells(BASE)
    found = json.loads(json.dumps(cell.config))
    return {**found, "force": False, "retry": [], "jobs": 1, "trace": False}


def with_value(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    changed = json.loads(json.dumps(config))
    *groups, name = key.split(".")
    node = changed
    for group in groups:
        node = node[group]
    assert name in node
    node[name] = value
    return dict(changed)


@pytest.mark.parametrize("key", keys())
def test_no_value_of_a_key_breaks_anything(plain: dict[str, Any], key: str) -> None:
    usable = []
    for name, value in VALUES.items():
        started = time.process_time()
        try:
            found = Settings.from_config(with_value(plain, key, value))
            assert len(found.run_name) < 255
            usable.append(name)
        except UsageError as error:
            told = str(error)
            assert key.split(".")[-1] in told, f"{key}={name}: {told[:300]}"
            assert told.isprintable(), told[:300]
            assert len(told) < 1_000, told[:300]
        assert time.process_time() - started < 3
    expected = USABLE.get(key)
    if expected is not None:
        assert usable == expected
    for number in (
        "NaN",
        "infinite",
        "a list with NaN",
        "beyond 64 bits",
        "thousands of digits",
        "NUL",
        "half a surrogate",
    ):
        assert number not in usable
    if key.endswith(("path", "output_dir")):
        assert set(usable) <= {"null", *PATHS}
    if key.endswith("system_prompt"):
        assert usable == PROMPTS


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "generation.gen_length=99999999999",
            f"gen_length must be at most {MAX_TOKENS:,}, not 99999999999; it may be 1",
        ),
        ("generation.num_transfer_tokens=33", "num_transfer_tokens must be at most the block_length, 32, not 33"),
        ("generation.num_transfer_tokens=999", "num_transfer_tokens must be at most the block_length, 32, not 999"),
        ("generation.threshold=-0.1", "threshold must not be negative, not -0.1"),
        ("generation.threshold=90", "threshold must be at most 1, not 90"),
        ("generation.threshold=nan", "generation.threshold must be a finite number, not nan"),
        ("generation.factor=inf", "generation.factor must be a finite number, not inf"),
        ("generation.temperature=1e-9", "temperature must be at least 0.001"),
        ("generation.sigma=1e-9", "sigma must be at least 0.001"),
        ("seed=-1", f"seed must be at least 0, not -1; it may be 0 to {MAX_SEED:,}"),
        ("seed=4294967296", "seed must be at most 4,294,967,295"),
        ("batch_size=5000", "batch_size must be at most 4,096, not 5000; it may be 1 to 4,096"),
        ("jobs=99999999999", "jobs must be at most 1,024"),
        ("likelihood.mc_num=99999999", "likelihood.mc_num must be at most 100,000"),
        ("dataset.n_shot=99999", "dataset.n_shot must be at most 1,000"),
        ("model.name=''", "model.name names run folders"),
        ("model.name='..'", "model.name names run folders"),
        ("model.name='.hidden'", "model.name names run folders"),
        ("model.name='a/b'", "model.name names run folders"),
        ("model.stop_words=['']", "model.stop_words holds an empty text, which would end every answer; leave it out"),
        ("model.end_tokens=['']", "model.end_tokens holds an empty text"),
        ("batch_size=true", "batch_size must be a whole number, not True"),
        ("seed=[1]", "seed must be a whole number, not [1]"),
        ("generation.alg=[entropy]", "alg must be text"),
        ("retry=null", "retry must be a list of texts"),
        ("trace=[0,true]", "trace must be true, false, a row"),
        ("output_dir='${output_dir}'", "can't be composed"),
        ("+recipe=" + "x" * 300, "there is no recipe"),
        ("hydra=5", "can't be composed"),
        ("cache.name=[none]", "cache.name must be text"),
        ("seed=" + "1" * 5000, "is not of the form key=value"),
        ("x" * 5000, "unknown key|is not of the form"),
    ],
)
def test_values_out_of_range_are_named(override: str, message: str) -> None:
    started = time.process_time()
    with pytest.raises(UsageError) as caught:
        cells([*BASE, override])
    assert any(part in str(caught.value) for part in message.split("|"))
    assert len(str(caught.value)) < 1_000
    assert time.process_time() - started < 3


@pytest.mark.parametrize(
    "override", ["retry=", "model.name=a-b_c.d+1", "trace=[0,0]", "seed=4294967295", "batch_size=4096"]
)
def test_values_at_the_edge_are_taken(override: str) -> None:
    (cell,) = cells([*BASE, override])
    assert (cell.retry, cell.trace) == ([], [0] if "trace" in override else [])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=range(1,3,0)", "is no list of values: range() arg 3 must not be zero"),
        ("seed=range(0,10,0.0)", "is no list of values"),
        ("seed=range(nan,3)", "is no list of values"),
        ("seed=interval(1,2)", "is no list of values"),
        ("cache=glob(*)", "is no list of values"),
        ("seed=range(3,1)", "lists no values"),
        ("seed=range(1,1000000000)", "makes more than 10,000 cells"),
        ("seed=range(1.0,inf)", "makes more than 10,000 cells"),
        ("seed=1,nan", "seed must be a finite number"),
        ("seed=choice()", "is not of the form key=value"),
    ],
)
def test_lists_that_cannot_be_swept_are_named(override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        cells([*BASE, override], sweep=True)
    assert message in str(caught.value)


def test_combinations_are_bounded_together() -> None:
    with pytest.raises(UsageError, match="'batch_size=range\\(1,4000\\)' makes more than 10,000 cells"):
        cells([*BASE, "seed=1,2,3", "batch_size=range(1,4000)"], sweep=True)


def test_the_nearest_length_of_a_block_is_found_at_once() -> None:
    started = time.process_time()
    with pytest.raises(UsageError, match="the nearest that does is 32"):
        GenerationOptions(gen_length=MAX_TOKENS, block_length=33)
    assert time.process_time() - started < 1


def test_a_row_to_trace_is_in_the_data(tmp_path: Path) -> None:
    from evaluation.run.evaluate import evaluate_cell

    (cell,) = cells([*BASE, "trace=500", f"output_dir={tmp_path / 'out'}"])
    with pytest.raises(UsageError, match=r"trace names row \[500\], and nano-gsm has rows 0 to 499"):
        evaluate_cell(cell)
    assert not (tmp_path / "out").exists()
