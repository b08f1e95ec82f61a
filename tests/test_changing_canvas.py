"""Tokens that are taken back, a canvas that grows or is cut: in the terminal, and on the page of a trace."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from rich.console import Console

from evaluation.config.command_line import cells
from evaluation.trace import Trace, record, render, write
from evaluation.trace.page_data import page_data
from generation.demo import TimedGeneration
from generation.options import GenerationOptions
from generation.output import Counts, Progress
from generation.strategies.strategy import Region
from generation.terminal import MARKS, Picture

if TYPE_CHECKING:
    from playwright.sync_api import Page

Opener = Callable[..., "Page"]
MASK = 256
OPTIONS = {
    "daedal": [
        "gen_length=64",
        "initial_length=16",
        "block_length=16",
        "eos_window=8",
        "low_threshold=0.8",
        "expansion=4",
    ],
    "wino": ["gen_length=32", "block_length=32", "threshold=0.1", "threshold_back=0.99"],
    "slowfast": ["gen_length=64", "k_exploration=2", "cycle_confidence=0.95"],
}


@pytest.fixture(scope="module")
def traces() -> dict[str, Trace]:
    found = {}
    for strategy, options in OPTIONS.items():
        given = [f"generation={strategy}", *(f"generation.{option}" for option in options)]
        (settings,) = cells(["model=nano-llada", "dataset=nano-gsm", "cache=none", *given], sweep=True)
        found[strategy] = record(settings, 0)
    return found


# The terminal


def progress(tokens: list[int], new: list[int], gone: list[int], length: int) -> Progress:
    ids = torch.tensor([tokens])
    committed, revoked = torch.zeros_like(ids, dtype=torch.bool), torch.zeros_like(ids, dtype=torch.bool)
    committed[0, new] = True
    revoked[0, gone] = True
    return Progress(ids, committed, {0: Region(0, 0, 4)}, Counts(forwards=3, rows=1, rows_full=1), revoked, [length])


class Letters:
    """A tokenizer of letters."""

    all_special_ids = (0,)

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(map(chr, ids))


def test_a_picture_shows_what_was_taken_back_and_ends_where_the_canvas_does() -> None:
    a, b = ord("a"), ord("b")
    picture = Picture("none", Letters(), MASK, MARKS)
    picture.update(progress([a, MASK, MASK, b, MASK, MASK, MASK, MASK], [3], [1], 6), "status")
    console = Console(file=io.StringIO(), width=20, height=9, force_terminal=True, color_system=None)
    console.print(picture.render(console, 9))
    assert console.file.getvalue().splitlines()[1] == "a✗░b··"  # type: ignore[attr-defined]


def test_the_status_counts_what_exists_and_what_was_taken_back() -> None:
    options = GenerationOptions.make(strategy="daedal", gen_length=8, block_length=4)
    states = [progress([65, MASK, MASK, 66, MASK, MASK, MASK, MASK], [3], gone, 6) for gone in ([1, 2], [])]
    generation = TimedGeneration("none", iter(states), options, MASK)
    assert generation.advance()
    assert generation.status().endswith("step 3 · block 1/2 · 2/6 tokens · 2 taken back")
    assert generation.advance()
    assert generation.status().endswith("· 2/6 tokens")
    assert generation.summary(1).startswith("none: 2 tokens in")


# The trace


def canvases(data: dict[str, Any]) -> list[list[int | None]]:
    """What each step holds, as the page derives it: words, -1 for a mask, None for what does not exist."""
    canvas: list[int | None] = [-1 if position < data["first"] else None for position in range(data["gen"])]
    found = []
    for step in data["steps"]:
        canvas = [-1 if word is None and position < step["there"] else word for position, word in enumerate(canvas)]
        for position, word in zip(step["put"][::2], step["put"][1::2], strict=True):
            canvas[position] = word
        found.append(list(canvas))
    return found


@pytest.mark.parametrize("strategy", ["daedal", "wino"])
def test_the_data_of_a_page_replay_to_every_canvas(strategy: str, traces: dict[str, Trace]) -> None:
    trace = traces[strategy]
    data, mask = page_data(trace), trace.config.mask_id
    tokens = [token for token in trace.words if token != mask]
    lengths = set()
    for step, canvas in zip(trace.steps, canvases(data), strict=True):
        length = data["gen"] if step.lengths is None else step.lengths[0]
        held = [mask if word == -1 else tokens[word] for word in canvas[:length]]  # type: ignore[index]
        assert held == step.canvas[0, :length].tolist()
        assert canvas[length:] == [None] * (data["gen"] - length)
        lengths.add(length)
    if strategy == "daedal":
        assert data["first"] == 16
        assert len(lengths) > 2
    else:
        assert sum(len(step["gone"]) for step in data["steps"]) > 0
    assert [data["words"][word][0] for word in canvas if word is not None] == trace.token_texts


def test_an_ordinary_trace_has_none_of_this(traces: dict[str, Trace]) -> None:
    data = page_data(traces["slowfast"])
    assert "words" not in data
    assert "put" not in data["steps"][0]


def test_the_page_says_what_applies_to_it(traces: dict[str, Trace]) -> None:
    for strategy, trace in traces.items():
        page = render([trace])
        assert ("<dt>Taken back, longer</dt>" in page) == (strategy != "slowfast")
        assert ("<dt>Cut</dt>" in page) == (strategy == "slowfast")


@pytest.mark.parametrize("strategy", ["daedal", "wino"])
def test_the_slider_shows_every_canvas(
    strategy: str, traces: dict[str, Trace], tmp_path: Path, open_page: Opener
) -> None:
    trace = traces[strategy]
    page, mask = open_page(write(tmp_path / "trace.html", [trace])), trace.config.mask_id
    read = "tokens => tokens.map(one => ({ text: one.textContent, classes: [...one.classList] }))"
    for number, step in enumerate(trace.steps, 1):
        page.locator("#at").evaluate("(at, to) => { at.value = to; at.dispatchEvent(new Event('input')); }", number)
        length = len(trace.ids) if step.lengths is None else step.lengths[0]
        canvas = step.canvas[0].tolist()
        gone = [] if step.revoked is None else step.revoked[0].tolist()
        for place, token in enumerate(page.locator(".token").evaluate_all(read)):
            assert ("absent" in token["classes"]) == (place >= length)
            if place >= length:
                continue
            special = canvas[place] in trace.special
            text = "" if canvas[place] == mask else "▪" if special else trace.words[canvas[place]]
            assert token["text"] == text
            assert ("gone" in token["classes"]) == bool(gone and gone[place])
        said = page.locator(".status").inner_text()
        assert (f", {sum(gone)} taken back, " in said) == (sum(gone) > 0)
        assert f"{canvas[:length].count(mask)} masked" in said
    box = page.locator(".map canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + 2)
    assert ("not there yet" in page.locator("#tip").inner_text()) == (strategy == "daedal")
