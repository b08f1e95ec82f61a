"""Chat templates that raise, drop turns or give nothing: one error before the weights are loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import generation.demo as program
from cache_zoo import UsageError
from evaluation.config.command_line import cells
from evaluation.run.lm import CacheZooLM
from evaluation.sweep.cell import Cell
from models.chat import Chat
from models.loading import read_config
from models.tiny import byte_tokenizer
from models.tokenizer import load_tokenizer
from tests.small_runs import call

LOOP = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system message') }}{% endif %}" + LOOP
SYSTEM, USER, ASSISTANT = ({"role": role, "content": f"text of {role}"} for role in ("system", "user", "assistant"))
PREFILL = {"role": "assistant", "content": "```python\ndef f():"}
ALTERNATING = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ message['content'] }}{% endfor %}"
)
USERS_ONLY = "{% for message in messages if message['role'] == 'user' %}{{ message['content'] }}{% endfor %}"

BAD: dict[str, tuple[Any, list[dict[str, str]], str]] = {
    "raises": (NO_SYSTEM, [SYSTEM, USER], "TemplateError: no system message"),
    "two users": (ALTERNATING, [USER, USER], "roles must alternate"),
    "drops the system": (USERS_ONLY, [SYSTEM, USER], r"it drops the system message \(turn 1 of 2\)"),
    "drops examples": (USERS_ONLY, [USER, ASSISTANT, USER], r"it drops the assistant message \(turn 2 of 3\)"),
    "drops the prefill": (USERS_ONLY, [USER, PREFILL], "final message|start of the answer"),
    "is no Jinja": ("{% for %}", [USER], "TemplateSyntaxError"),
    "unknown name": ("{{ tools.x.y }}", [USER], "UndefinedError"),
    "divides by zero": ("{{ 1 // 0 }}", [USER], "ZeroDivisionError"),
    "no such filter": ("{{ messages | nosuch }}", [USER], "TemplateAssertionError|TemplateRuntimeError"),
    "half a character": ("{{ '\\ud800' }}" + LOOP, [USER], "a lone surrogate"),
    "gives nothing": ("", [USER], "it drops the user message|no chat template|chat_template"),
    "gives blanks": ("  \n", [USER], "it drops the user message"),
    "no default": ({"tool_use": LOOP}, [USER], "ValueError"),
    "the last turn only": ("{{ messages[-1]['content'] }}", [SYSTEM, USER], "it drops the system message"),
    "the first turn only": ("{{ messages[0]['content'] }}", [USER, ASSISTANT, USER], "it drops the assistant message"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_template_that_cannot_be_used_is_one_error(name: str) -> None:
    template, turns, message = BAD[name]
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(UsageError, match=message) as caught:
        Chat(tokenizer, "chat=false").render(turns, continued=turns[-1] is PREFILL)
    assert "give chat=false" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_template_without_an_end_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.chat._MAX_SECONDS", 0.2)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}" + LOOP
    with pytest.raises(UsageError, match=r"TimeoutError: it takes more than 0\.2 seconds; give chat=false"):
        Chat(tokenizer, "chat=false").render([USER])


@pytest.mark.parametrize("template", [LOOP, None])
def test_a_template_that_works_gives_what_it_gives(template: str | None) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template or tokenizer.chat_template
    chat = Chat(tokenizer, "chat=false")
    turns = [SYSTEM, USER, ASSISTANT, USER]
    expected = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert chat.render(turns) == chat.render(turns) == expected
    assert chat.render([USER, PREFILL], continued=True).endswith(PREFILL["content"])


def test_a_prefill_that_is_also_in_the_question_is_not_taken_for_one() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = USERS_ONLY
    turns = [{"role": "user", "content": "Begin with ```python, please"}, {"role": "assistant", "content": "```python"}]
    with pytest.raises(UsageError):
        Chat(tokenizer, "x").render(turns, continued=True)


@pytest.fixture
def checkpoint(tiny_folders: dict[str, Path], tmp_path: Path) -> Path:
    """A checkpoint whose template knows no system message, and whose weights can't be loaded."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_folders["llada"], folder)
    (folder / "chat_template.jinja").write_text(NO_SYSTEM)
    (folder / "model.safetensors").write_bytes(b"no weights")
    return folder


@pytest.mark.parametrize("key", ["model", "dataset"])
def test_a_run_ends_before_the_weights_are_loaded(checkpoint: Path, tmp_path: Path, key: str) -> None:
    given = ["model=llada-inst", f"model.path={checkpoint}", "dataset=nano-gsm", "dataset.size=1"]
    given += ["generation.gen_length=8", "generation.block_length=4", f"output_dir={tmp_path / 'out'}"]
    (cell,) = cells([*given, f"{key}.system_prompt='Be brief.'"])
    with pytest.raises(UsageError, match=f"no system message; give .*chat_template=false, or no {key}.system_prompt"):
        Cell(cell).answer()
    assert not (tmp_path / "out").exists()


def test_lm_evals_program_says_the_same(checkpoint: Path) -> None:
    (cell,) = cells(["model=llada-inst", f"model.path={checkpoint}"])
    tokenizer = load_tokenizer(checkpoint)
    lm = CacheZooLM(cell, read_config(checkpoint)[1], tokenizer, lambda: pytest.fail("loaded"))
    with pytest.raises(UsageError, match="no system message"):
        lm.apply_chat_template([SYSTEM, USER])
    assert lm.apply_chat_template([USER]) == "user: text of user\n"


def test_the_answer_to_a_prompt_ends_before_the_weights_are_loaded(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / "chat_template.jinja").write_text("{{ raise_exception('not today') }}")
    assert call(monkeypatch, program, "Hello", f"model={checkpoint}") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: the chat template of ")
    assert err.endswith("can't be used for user: TemplateError: not today; give chat=false\n")


def test_templates_that_come_in_a_list_need_a_default(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / "chat_template.jinja").unlink()
    config = checkpoint / "tokenizer_config.json"
    listed = [{"name": "tool_use", "template": LOOP}]
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": listed}))
    assert call(monkeypatch, program, "Hello", f"model={checkpoint}") == 2
    assert "the chat template of " in capsys.readouterr().err
