"""The embedded tasks, their tokenizer and the program that trains the embedded models."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from random import Random

import pytest
import torch

from generation import generate
from models import load_model, resolve_checkpoint
from models.nano.batches import Batches, Plan, _from_result
from models.nano.code import function
from models.nano.data import CODE_SIZE, GSM_SIZE, ITEMS, held_out, write_items
from models.nano.gsm import LARGEST, problem
from models.nano.tokenizer import VOCAB_SIZE, train_tokenizer
from models.nano.train import train
from models.tokenizer import load_tokenizer

SMALL = {"width": 32, "layers": 2, "heads": 2, "inner": 48, "batch": 4, "gen_length": 64, "shots": 2}


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (ITEMS / name).read_text().splitlines()]


def test_the_frozen_items_are_what_the_generator_writes(tmp_path: Path) -> None:
    write_items(tmp_path)
    for name in ("gsm/test.jsonl", "gsm/train.jsonl", "code/test.jsonl"):
        assert (tmp_path / name).read_text() == (ITEMS / name).read_text()
    assert len(rows("gsm/test.jsonl")) == GSM_SIZE == 500
    assert len(rows("code/test.jsonl")) == CODE_SIZE == 200
    assert len(held_out()) == 500 + 40 + 200, "items repeat"


def test_every_worked_answer_is_right() -> None:
    random = Random(5)
    for made in (problem(random) for _ in range(2000)):
        equations = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)\.", made.answer)
        assert 2 <= len(equations) <= 4
        for left, sign, right, result in equations:
            exact = {"+": int(left) + int(right), "-": int(left) - int(right), "*": int(left) * int(right)}
            assert int(result) == (int(left) / int(right) if sign == "/" else exact[sign])
            assert 0 < int(result) <= LARGEST
        assert made.answer.endswith(f"= {made.result}. #### {made.result}")
        for number in {left for left, *_ in equations[:1]}:
            assert number in made.question


def test_every_reference_body_passes_its_asserts() -> None:
    random = Random(5)
    for made in (function(random) for _ in range(500)):
        exec(made.prompt + made.body + made.tests, {})
        with pytest.raises(AssertionError):
            exec(made.prompt + "    return None\n" + made.tests, {})


def test_the_tokenizer_encodes_any_text() -> None:
    tokenizer = train_tokenizer()
    assert len(tokenizer) <= VOCAB_SIZE <= 1024
    for text in (
        "Janet's ducks lay 16 eggs. £5, naïve 你好\n\n\tx = 3",
        " 1234",
        rows("gsm/test.jsonl")[0]["question"],
    ):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(" 1234")) == 4, "digits must be single"
    assert (tokenizer.mask_token_id, tokenizer.eos_token_id) == (0, 1)
    again = train_tokenizer()
    assert again.get_vocab() == tokenizer.get_vocab()


@pytest.mark.slow
def test_training_never_sees_a_test_item() -> None:
    tokenizer = train_tokenizer()
    plan = Plan(**{**SMALL, "batch": 32})
    data = Batches(plan, tokenizer)
    data.held_out = frozenset()
    open_text = "".join(tokenizer.decode(row) for n in range(150) for row in data.batch(n)[0].tolist())
    assert any(item in open_text for item in held_out()), "without the filter items would come up in as many batches"
    filtered = Batches(plan, tokenizer)
    text = "".join(tokenizer.decode(row) for n in range(150) for row in filtered.batch(n)[0].tolist())
    assert not any(item in text for item in held_out())


def test_only_answers_and_the_tail_are_masked() -> None:
    tokenizer = train_tokenizer()
    data = Batches(Plan(**SMALL, shots_from=0.0), tokenizer)
    for number in range(30):
        ids, masked, weight = data.batch(number)
        assert masked.any()
        for row in range(len(ids)):
            text = tokenizer.decode(ids[row][~masked[row]])
            if re.match(r" \d+ ", text):  # a row of drill
                shown = tokenizer.decode(ids[row].masked_fill(masked[row], tokenizer.mask_token_id))
                assert "<|mask|>" not in re.sub(r"=(?: ?\d|<\|mask\|>)+", "", shown), "more than a result was masked"
                continue
            assert text.startswith(("Question: ", "def "))
            assert text.count("?") == text.count("Answer:"), "a question was masked"
        assert ((weight == 1) | (ids == tokenizer.eos_token_id)).all()


def test_numbers_that_follow_from_a_result_are_hidden_together() -> None:
    data = Batches(Plan(**SMALL), train_tokenizer())
    tokens = data.tokenizer.encode(" 4 * 3 = 12. 25 + 12 = 37. 37 - 8 = 29. #### 29\n\n")
    numbers = data._results(tokens)
    assert [data.tokenizer.decode(tokens[one.start : one.stop]) for one in numbers] == [
        *(" 12", " 25", " 37", " 37", " 29", " 29")
    ]
    random, generator, starts = Random(1), torch.Generator().manual_seed(1), set()
    for _ in range(60):
        masked, stop = _from_result(len(tokens) + 5, numbers, random, generator)
        first = next(one for one in numbers if one.stop == stop)
        starts.add(first.start)
        assert not masked[: first.start].any()
        for later in numbers:
            assert masked[later.start : later.stop].all() == (later.start >= first.start)
    assert len(starts) == len(numbers)


BATCHES = {0: "88051e558084", 2400: "8ab82adeabfd", 4000: "92b7cf7cce6c", 6000: "bcb2009ac9c3"}


@pytest.mark.parametrize("number", list(BATCHES))
def test_batches_are_those_that_the_shipped_models_were_trained_on(number: int) -> None:
    batch = Batches(Plan(), train_tokenizer()).batch(number)
    digest = hashlib.sha256(b"".join(part.numpy().tobytes() for part in batch)).hexdigest()
    assert digest.startswith(BATCHES[number])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llada", pytest.param("dream", marks=pytest.mark.slow)])
def test_a_run_repeats_resumes_and_exports(family: str, tmp_path: Path) -> None:
    plan = Plan(**SMALL, family=family, kv_heads=1 if family == "dream" else 2, steps=12)
    whole = train(plan, tmp_path / "whole", save_every=100)
    assert train(plan, tmp_path / "again", save_every=100) == whole
    assert whole[-1] < whole[0]

    first = train(plan, tmp_path / "parts", save_every=100, stop_after=0)
    assert len(first) == 1
    assert first + train(plan, tmp_path / "parts", save_every=100) == whole

    model = load_model(tmp_path / "whole")
    assert (model.config.family, model.config.num_layers) == (family, 2)
    out = generate(model, [train_tokenizer().encode("Question: How many?\nAnswer:")], gen_length=16, block_length=8)
    assert (out.tokens != model.config.mask_id).all()
    assert torch.isfinite(model.embedding.weight).all()


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("name", "kv_heads"), [("nano-llada", 4), ("nano-dream", 2)])
def test_a_shipped_model_is_small_and_solves_its_task(name: str, kv_heads: int) -> None:
    folder = resolve_checkpoint(name)
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8e6
    model, tokenizer = load_model(name), load_tokenizer(folder)
    assert model.config.num_layers >= 6
    assert model.config.num_kv_heads == kv_heads
    asked = rows("gsm/test.jsonl")[:20]
    shots = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in rows("gsm/train.jsonl")[:4])
    prompts = [tokenizer.encode(f"{shots}Question: {row['question']}\nAnswer:") for row in asked]
    assert 200 <= min(map(len, prompts)) <= max(map(len, prompts)) <= 400
    out = generate(model, prompts, gen_length=64, block_length=32, threshold=0.9)
    answers = [tokenizer.decode(ids).split("<|endoftext|>")[0].strip() for ids in out.tokens.tolist()]
    right = sum(answer == row["answer"] for answer, row in zip(answers, asked, strict=True))
    assert right >= 15, answers
