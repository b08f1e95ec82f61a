"""Scores without what the frequency of a token alone explains, and the file with the frequencies."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from cache_zoo import UsageError
from evaluation.config.command_line import cells
from evaluation.config.identity import config_hash, setting
from evaluation.config.settings import Settings
from generation import GenerationOptions, generate
from generation.frequencies import calibrated, digest_of, frequencies
from generation.testing import tiny_model, tiny_prompts

NANO = ["model=nano-llada", "dataset=nano-gsm", "generation.gen_length=64"]


def written(folder: Path, content: Any, name: str = "freq.json") -> str:
    path = folder / name
    path.write_text(json.dumps(content))
    return str(path)


def test_by_hand() -> None:
    frequency = torch.tensor([0.5, 0.1, 0.001])
    score = calibrated(torch.tensor([[0.9, 0.9, 0.9, 0.9]]), torch.tensor([[0, 1, 2, 700]]), frequency, 5.0)
    expected = [0.9 * math.log(2), 0.9 * math.log(10), 5.0, 5.0]
    torch.testing.assert_close(score, torch.tensor([expected]))
    assert calibrated(torch.tensor([1.0]), torch.tensor([0]), torch.tensor([0.0]), 100.0).item() == pytest.approx(
        -math.log(1e-10)
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([0.5, 0.25, 0.125], [0.5, 0.25, 0.125, 0.125]),
        ({"freq": [0.5, 0.25], "note": "a corpus"}, [0.5, 0.25, 0.25]),
        ({"3": 0.5, "1": 0.25}, [0.25, 0.25, 0.25, 0.5, 0.25]),
        ({"freq": {"1": 1}}, [1, 1, 1]),
    ],
    ids=str,
)
def test_files(content: Any, expected: list[float], tmp_path: Path) -> None:
    assert frequencies(written(tmp_path, content)).tolist() == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds no frequencies of tokens"),
        ("text", "holds no frequencies of tokens"),
        ({"freq": 1}, "holds no frequencies of tokens"),
        ({"the": 0.1}, "has the key the, which is no token id"),
        ({"99999999999": 0.1}, "which is no token id"),
        ([0.1, -0.1], "has a frequency that is no number between 0 and 1"),
        ([0.1, "0.1"], "has a frequency that is no number between 0 and 1"),
        ([0.1, float("nan")], "has a frequency that is no number between 0 and 1"),
    ],
    ids=str,
)
def test_wrong_files_are_named_before_a_model_is_loaded(content: Any, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    with pytest.raises(UsageError, match=message) as error:
        cells([*NANO, f"generation.debias={path}"])
    assert path in str(error.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none.json", "No such file"), (tmp_path, "is no regular file")):
        with pytest.raises(UsageError, match=message):
            cells([*NANO, f"generation.debias={path}"])
    (tmp_path / "text.json").write_text("0.1 0.2")
    with pytest.raises(UsageError, match="is not JSON"):
        frequencies(str(tmp_path / "text.json"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"debias": "a", "alg": "entropy"}, "debias weighs the probability of a token; alg=entropy ranks by something"),
        ({"debias": "a", "threshold": 0.9}, "debias changes confidences, and threshold needs probabilities"),
        ({"debias_sha256": "a"}, "debias_sha256 is the digest of a file; give the file as debias"),
        ({"debias_clip": 0.0}, "debias_clip must be above 0, not 0.0"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        GenerationOptions(**options)
    assert message in str(error.value)


def test_the_run_is_that_of_the_content(tmp_path: Path) -> None:
    (plain,) = cells(NANO)
    one, same = written(tmp_path, [0.5, 0.1], "one.json"), written(tmp_path, [0.5, 0.1], "same.json")
    other = written(tmp_path, [0.5, 0.2], "other.json")
    runs = [next(iter(cells([*NANO, f"generation.debias={path}"]))) for path in (one, same, other)]
    assert config_hash(runs[0].config) == config_hash(runs[1].config)
    assert len({config_hash(run.config) for run in (plain, *runs)}) == 3
    assert setting(runs[0].config) == setting(runs[1].config) != setting(runs[2].config)
    assert runs[0].generation.debias_sha256 == runs[0].config["generation"]["debias_sha256"] == digest_of(one)
    assert Settings.from_config(runs[0].config).config == runs[0].config
    clipped = next(iter(cells([*NANO, "generation.debias_clip=3"])))
    assert config_hash(clipped.config) == config_hash(plain.config)  # no effect
    os.utime(one, ns=(1, 1))
    Path(one).write_text("[0.5, 0.3]")
    with pytest.raises(UsageError, match="is not that of debias_sha256"):
        Settings.from_config(runs[0].config)
    Path(one).unlink()
    assert Settings.from_config(runs[0].config, trusted=False).config_hash == runs[0].config_hash  # it is not looked at


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_frequent_tokens_come_later(family: str, tmp_path: Path) -> None:
    model, prompts = tiny_model(family), tiny_prompts()
    options = {"gen_length": 16, "block_length": 16}
    plain = generate(model, prompts[:1], **options, trace=True)
    assert plain.trace is not None
    first = int(plain.tokens[0][plain.trace[0].committed[0]])
    path = written(tmp_path, {str(first): 1, "0" if first else "1": 1e-6})
    out = generate(model, prompts, **options, debias=path, trace=True)
    assert out.trace is not None
    assert int(out.trace[0].canvas[0][out.trace[0].committed[0]]) != first
    even = generate(model, prompts, **options, debias=written(tmp_path, [0.01] * 300, "even.json"))
    assert torch.equal(even.tokens, generate(model, prompts, **options).tokens)
    for number, prompt in enumerate(prompts):
        assert torch.equal(generate(model, [prompt], **options, debias=path).tokens[0], out.tokens[number])
