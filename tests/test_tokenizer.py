"""Reading a checkpoint's tokenizer: an unusable one is an error on loading, not on first use."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cache_zoo import UsageError
from models.tokenizer import load_tokenizer


@pytest.fixture
def folder(tmp_path: Path, tiny_folders: dict[str, Path]) -> Path:
    return Path(shutil.copytree(tiny_folders["llada"], tmp_path / "checkpoint"))


def change(folder: Path, **changes: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("longest", ["8192", "x", [], {}, True])
def test_a_longest_text_that_is_no_number_is_refused(longest: object, folder: Path) -> None:
    change(folder, model_max_length=longest)
    with pytest.raises(UsageError, match=r"checkpoint: 'model_max_length' of its tokenizer must be a number, not"):
        load_tokenizer(folder)


@pytest.mark.parametrize("longest", [None, 8192, 1e30])
def test_numbers_and_none_are_fine(longest: float | None, folder: Path) -> None:
    change(folder, model_max_length=longest)
    assert load_tokenizer(folder)("ab")["input_ids"] != []


@pytest.mark.parametrize("changes", [{"eos_token": 5}, {"pad_token": ["a"]}, {"padding_side": "up"}], ids=str)
def test_special_tokens_of_other_types_are_refused(changes: dict[str, Any], folder: Path) -> None:
    change(folder, **changes)
    with pytest.raises(UsageError, match="has no readable tokenizer"):
        load_tokenizer(folder)


def test_a_panic_of_the_library_is_an_error(folder: Path) -> None:
    """Not an `Exception` in Python."""
    path = folder / "tokenizer.json"
    missing = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "no such", "type_id": 0}}], "pair": []}
    path.write_text(json.dumps({**json.loads(path.read_text()), "post_processor": {**missing, "special_tokens": {}}}))
    with pytest.raises(UsageError, match="has no readable tokenizer"):
        load_tokenizer(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_damaged_files_are_refused(file: str, content: str, folder: Path) -> None:
    (folder / file).write_text(content)
    with pytest.raises(UsageError, match="has no readable tokenizer"):
        load_tokenizer(folder)
