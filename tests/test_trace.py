"""Traces: the record of a question decoded again, refusals, and the page in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from omegaconf import OmegaConf

from cache_zoo import UsageError
from evaluation.config.command_line import cells
from evaluation.config.settings import Settings
from evaluation.run.evaluate import evaluate_cell
from evaluation.storage.saved_run import SavedRun
from evaluation.trace import Trace, record, render, write
from evaluation.trace.__main__ import main
from evaluation.trace.divergence import commit_steps, diverge
from evaluation.trace.draw import record_all
from evaluation.trace.page_data import SCALE, page_data
from evaluation.trace.questions import select_question
from evaluation.trace.token_texts import token_texts
from models import load_model, resolve_checkpoint
from models.tokenizer import load_tokenizer
from tests.small_runs import edit_samples, pick

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

Opener = Callable[..., "Page"]
ROW = 3
ATTACKS = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", "<!--<script>", "{{ 7 * 7 }}")


@pytest.fixture(scope="module")
def plain(small_runs: Path) -> Path:
    return pick(small_runs, "none")


@pytest.fixture(scope="module")
def layered(small_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that chooses rows per layer and never looks at the response again: its answers are other ones.

    Its saved answers are still those of the run it is a copy of.
    """
    return changed(pick(small_runs, "none"), tmp_path_factory.mktemp("layered"), CACHE)


CACHE = {"cache": {"name": "dllm", "kp": 50, "kr": 50, "rou": 0.1}}


def changed(run: Path, parent: Path, config: dict[str, Any]) -> Path:
    """A copy of a run with another configuration."""
    copy = parent / run.name
    shutil.copytree(run, copy)
    OmegaConf.save(OmegaConf.create({**SavedRun(run).resolved, **config}), copy / "config.yaml")
    return copy


@pytest.fixture(scope="module")
def traces(plain: Path, layered: Path) -> list[Trace]:
    return record_all([select_question(folder, str(ROW)) for folder in (layered, plain)])


@pytest.fixture(scope="module")
def rows_only(small_runs: Path) -> Trace:
    """Of a cache that chooses the same rows for all layers."""
    (trace,) = record_all([select_question(pick(small_runs, "d2cache"), str(ROW))])
    return trace


@pytest.fixture(scope="module")
def page_file(traces: list[Trace], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("trace") / "two.html", traces)


@pytest.fixture(scope="module")
def single_file(rows_only: Trace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("trace") / "one.html", [rows_only])


def run_main(monkeypatch: pytest.MonkeyPatch, *given: object) -> int:
    monkeypatch.setattr(sys, "argv", ["evaluation.trace", *map(str, given)])
    return main()


# What is recorded


def test_rows_add_up_to_what_was_counted(traces: list[Trace], rows_only: Trace) -> None:
    for trace in [*traces, rows_only]:
        data, length = page_data(trace), len(trace.prompt.ids) + len(trace.ids)
        layers = trace.config.num_layers
        rounded = 0.0005 * len(data["steps"])
        assert sum(step["run"] for step in data["steps"]) == pytest.approx(trace.output.counts.rows, abs=rounded)
        for step in data["steps"]:
            runs = data["patterns"][step["rows"]]
            assert sum(runs[::2]) == length
            assert all(0 <= ran <= layers for ran in runs[1::2])
            ran = sum(size * ran for size, ran in zip(runs[::2], runs[1::2], strict=True))
            assert ran / layers == pytest.approx(step["run"], abs=0.0005)
            assert step["ms"] > 0
        assert len(data["steps"]) == trace.output.nfe


def test_every_position_is_committed_once_with_a_confidence(traces: list[Trace], rows_only: Trace) -> None:
    for trace in [*traces, rows_only]:
        data = page_data(trace)
        assert sorted(place for step in data["steps"] for place in step["new"]) == list(range(data["gen"]))
        for step, recorded in zip(data["steps"], trace.steps, strict=True):
            first, *values = step["sure"]
            for place in step["new"]:
                sure = recorded.confidence[0, place].item()
                assert values[place - first] == round(SCALE * sure)
                assert step["region"][0] <= place < step["region"][1]
        assert "".join(piece or "" for piece in trace.token_texts) == trace.answer.raw


def test_it_is_the_saved_answer_in_the_saved_prompt(rows_only: Trace) -> None:
    assert rows_only.matches_saved
    assert rows_only.first_difference is None
    assert rows_only.saved is not None
    assert rows_only.answer.text == rows_only.saved["text"]
    assert rows_only.answer.raw == rows_only.saved["raw"]
    assert rows_only.output.nfe == rows_only.saved["forwards"]


@pytest.mark.slow
def test_sampled_answers_of_a_batch_are_drawn_again(tmp_path: Path) -> None:
    given = ["model=nano-llada", "dataset=nano-gsm", "dataset.size=3", "batch_size=3", f"output_dir={tmp_path}"]
    given += ["generation.gen_length=32", "generation.temperature=1.0", "generation.stop_until_eos=true"]
    (settings,) = cells(given)
    summary = evaluate_cell(settings)
    assert summary is not None
    for row in ("0", "2"):
        (trace,) = record_all([select_question(Path(summary.folder), row)])
        assert trace.matches_saved
        masked_places = [place for place, token in enumerate(trace.ids) if token == trace.config.mask_id]
        assert set(commit_steps(trace)) == set(range(32)) - set(masked_places)
        assert "temperature=1.0 stop_until_eos=true" in render([trace])


def test_a_program_with_a_model_records_with_it(plain: Path, traces: list[Trace]) -> None:
    settings = Settings.from_config(SavedRun(plain).resolved)
    folder = resolve_checkpoint(settings.model.path)
    trace = record(settings, ROW, model=load_model(folder), tokenizer=load_tokenizer(folder))
    assert trace.ids == traces[1].ids
    assert trace.matches_saved is None
    assert "none to compare with" in render([trace])


def test_a_checkpoint_is_loaded_once(plain: Path, layered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(*given: Any) -> Any:
        loaded.append(given)
        return load_model(*given)

    monkeypatch.setattr("evaluation.trace.draw.load_model", load)
    record_all([select_question(folder, None) for folder in (plain, layered)])
    assert len(loaded) == 1


def test_pieces_spell_characters_of_several_tokens() -> None:
    tokenizer = load_tokenizer(resolve_checkpoint("nano-llada"))
    ids = tokenizer("x = é€\n日本 <b>", add_special_tokens=False)["input_ids"]
    found = token_texts(tokenizer, ids)
    assert "".join(piece or "" for piece in found) == "x = é€\n日本 <b>"
    place = found.index("日")
    assert found[place + 1 : place + 3] == [None, None]


# What two have in common


def test_two_part_where_their_canvases_do(traces: list[Trace]) -> None:
    found = diverge(*traces)
    ours, theirs = (trace.ids for trace in traces)
    assert found.positions == [n for n in range(len(ours)) if ours[n] != theirs[n]]
    assert found.positions
    steps = [commit_steps(trace) for trace in traces]
    assert found.first_position in found.positions
    assert found.committed_in == (steps[0][found.first_position], steps[1][found.first_position])
    assert min(found.committed_in) == min(step[place] for step in steps for place in found.positions)
    assert found.first_step is not None
    canvases = [[step.canvas for step in trace.steps] for trace in traces]
    assert all(
        torch.equal(one, other) for one, other in zip(*(c[: found.first_step - 1] for c in canvases), strict=True)
    )
    assert not torch.equal(*(canvas[found.first_step - 1] for canvas in canvases))
    alike = diverge(traces[1], traces[1])
    assert (alike.positions, alike.first_step, alike.first_position) == ([], None, None)


def test_two_of_different_questions_are_refused(plain: Path, traces: list[Trace]) -> None:
    other = record_all([select_question(plain, "0")])[0]
    with pytest.raises(UsageError, match="need the same question"):
        render([traces[0], other])
    with pytest.raises(UsageError, match="one trace or two"):
        render([])


# The command


def test_the_page_goes_into_the_folder_of_the_run(
    plain: Path, layered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = (tmp_path / name for name in ("ours", "theirs"))
    shutil.copytree(plain, ours)
    shutil.copytree(layered, theirs)
    assert run_main(monkeypatch, ours, f"sample={ROW}") == 0
    assert capsys.readouterr().out == f"{ours / f'trace_{ROW}.html'}\n"
    assert run_main(monkeypatch, theirs, ours) == 0
    said = capsys.readouterr()
    assert said.out == f"{theirs / 'trace_0_beside_none.html'}\n"
    assert "warning: the answer is not the one that theirs saved" in said.err
    assert run_main(monkeypatch, ours, f"out={tmp_path / 'no' / 'page.html'}") == 2
    assert "page.html can't be written" in capsys.readouterr().err


def test_another_answer_than_the_saved_one_is_reported(traces: list[Trace]) -> None:
    assert traces[0].matches_saved is False
    saved = traces[1].ids[: traces[1].answer.tokens]
    ours = traces[0].ids[: traces[0].answer.tokens]
    place = next(n for n, pair in enumerate(zip(ours, saved, strict=False)) if pair[0] != pair[1])
    assert traces[0].first_difference == place
    text = render([traces[0]])
    assert f"differs from token {place} on" in text
    assert "the same, token for token" not in text


def test_what_cannot_be_traced_is_one_error(
    plain: Path, small_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def edited(name: str, change: Callable[[dict[str, Any]], object]) -> Path:
        copy = tmp_path / name / plain.name
        shutil.copytree(plain, copy)
        edit_samples(copy, lambda samples: [change(sample) for sample in samples])
        return copy

    other_prompt = edited("prompt", lambda sample: sample.update(prompt_sha256="0" * 64))
    scored = edited("scored", lambda sample: sample.update(choices=[]))
    renamed = edited("renamed", lambda sample: sample.update(task="nano-gsm-2"))
    failed = edited("failed", lambda sample: None)
    (failed / "status.json").write_text(json.dumps({"status": "failed"}))
    cases: list[tuple[list[object], str]] = [
        ([plain, "sample=99"], "has no question 99; its rows are 0 to 5 (6), the nearest is 5"),
        ([plain, "sample=nano-gms:3"], "its tasks are nano-gsm"),
        ([plain, "sample=three"], "sample= takes a row of the dataset, such as 3, not 'three'"),
        ([plain.with_name(plain.name[:-1])], f"did you mean {plain.parent}"),
        ([tmp_path], "status.json can't be read"),
        ([failed], "is failed; a trace takes a run that is done"),
        ([scored], "scored given answers and generated nothing"),
        ([other_prompt], "the prompt of nano-gsm, row 0 is not that of the run"),
        ([plain, other_prompt], "had different questions: nano-gsm row 0 and nano-gsm row 0 in another prompt"),
        ([plain, renamed], "had different questions: nano-gsm row 0 and nano-gsm-2 row 0"),
        ([plain, "device=cuda"], "which this machine does not have; give device=cpu"),
    ]
    if torch.cuda.is_available():
        cases.pop()
    before = {path: path.stat().st_mtime_ns for path in small_runs.rglob("*")}
    for given, expected in cases:
        assert run_main(monkeypatch, *given) == 2, given
        said = capsys.readouterr()
        errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, said.err
        assert expected in errors[0]
        assert said.out == ""
    assert {path: path.stat().st_mtime_ns for path in small_runs.rglob("*")} == before


# The page


def panel(page: Page, number: int) -> Locator:
    return page.locator(f".panel[data-run='{number}']")


def move(page: Page, moment: int) -> None:
    page.locator("#at").evaluate("(at, to) => { at.value = to; at.dispatchEvent(new Event('input')); }", moment)


def shown(page: Page, number: int) -> list[dict[str, Any]]:
    """Text and classes of all tokens."""
    read = "tokens => tokens.map(one => ({ text: one.textContent, classes: [...one.classList] }))"
    found: list[dict[str, Any]] = panel(page, number).locator(".token").evaluate_all(read)
    return found


def written(trace: Trace, place: int) -> str:
    return "▪" if trace.ids[place] in trace.special else trace.token_texts[place] or ""


def test_the_slider_moves_the_text_to_every_state(page_file: Path, traces: list[Trace], open_page: Opener) -> None:
    page = open_page(page_file)
    longest = max(trace.output.nfe for trace in traces)
    for moment in (longest, 0, 1, 2, longest // 2, longest - 1):
        move(page, moment)
        for number, trace in enumerate(traces):
            step = min(moment, trace.output.nfe)
            mask = trace.config.mask_id
            canvas = trace.steps[step - 1].canvas[0].tolist() if step else [mask] * len(trace.ids)
            new = trace.steps[step - 1].committed[0].tolist() if step else [False] * len(trace.ids)
            for place, token in enumerate(shown(page, number)):
                assert ("masked" in token["classes"]) == (canvas[place] == mask)
                assert ("new" in token["classes"]) == new[place]
                assert token["text"] == ("" if canvas[place] == mask else written(trace, place))
            said = panel(page, number).locator(".status").inner_text()
            assert said.startswith(f"step {step} of {trace.output.nfe}" if step else "before the first forward")


def test_the_last_text_is_the_saved_answer(single_file: Path, rows_only: Trace, open_page: Opener) -> None:
    page = open_page(single_file)
    assert rows_only.saved is not None
    tokens = shown(page, 0)[: rows_only.saved["tokens_out"]]
    assert "".join(token["text"] for token in tokens) == rows_only.saved["text"]
    facts = panel(page, 0).locator(".facts").inner_text()
    assert "the same, token for token" in facts
    assert f"{rows_only.output.counts.compute_ratio:.3f}" in facts


def test_what_differs_is_marked_and_nothing_else(page_file: Path, traces: list[Trace], open_page: Opener) -> None:
    page = open_page(page_file)
    places = diverge(*traces).positions
    steps = [commit_steps(trace) for trace in traces]
    for moment in (99, 3):
        move(page, moment)
        for number in (0, 1):
            marked = [place for place, token in enumerate(shown(page, number)) if "differs" in token["classes"]]
            assert marked == [place for place in places if steps[number][place] <= moment]
    assert panel(page, 0).locator(".axis i").count() == len(places)
    assert f"{len(places)} of {len(traces[0].ids)} tokens differ" in page.locator("#divergence").inner_text()
    page.locator("#divergence .to").first.click()
    assert page.locator("#at").input_value() == str(diverge(*traces).first_step)


Colour = list[int]


def picture(page: Page, number: int) -> Callable[[int, float], Colour]:
    """Colours of the map, by step and share of its width."""
    read = """map => {
        const { width, height } = map;
        return { width, height, data: [...map.getContext("2d").getImageData(0, 0, width, height).data] };
    }"""
    found = panel(page, number).locator(".map canvas").evaluate(read)

    def pixel(step: int, share: float) -> Colour:
        at = 4 * ((step - 1) * found["width"] + int(share * found["width"]))
        return list(found["data"][at : at + 3])

    return pixel


def test_the_map_shows_what_ran(single_file: Path, rows_only: Trace, open_page: Opener) -> None:
    pixel = picture(open_page(single_file, color_scheme="light"), 0)
    start, gen = len(rows_only.prompt.ids), len(rows_only.ids)
    edge, committed_at = min(0.3, start / (start + gen)), commit_steps(rows_only)
    colours = {(True, True): [224, 138, 0], (True, False): [247, 234, 211]}  # masked: recomputed, not run
    colours |= {(False, True): [11, 107, 203], (False, False): [219, 229, 240]}  # text
    seen = set()
    for number, step in enumerate(rows_only.steps, 1):
        for place in range(gen):
            ran = start + place in step.layer_rows[0][0]
            kind = (committed_at[place] > number, ran)
            expected = [16, 20, 24] if committed_at[place] == number else colours[kind]
            assert pixel(number, edge + (1 - edge) * (place + 0.5) / gen) == expected
            seen.add(kind)
    assert len(seen) == 4


def test_the_map_shades_the_share_of_layers(page_file: Path, traces: list[Trace], open_page: Opener) -> None:
    page = open_page(page_file, color_scheme="light")
    assert "darker in more layers" in page.locator("#legend").inner_text()
    ran = sum(0 in layer[0] for layer in traces[0].steps[1].layer_rows)
    assert 0 < ran < traces[0].config.num_layers
    pixel = picture(page, 0)
    whole, part, reused = pixel(1, 0.0)[0], pixel(2, 0.0)[0], 219
    assert whole < part < reused


def test_confidence_is_another_colouring(page_file: Path, open_page: Opener) -> None:
    page = open_page(page_file, color_scheme="light")
    page.locator("#hue input[value=confidence]").check(force=True)
    pixel = picture(page, 1)
    assert pixel(1, 0.99) == [247, 234, 211]  # in the last block, whose confidences the first step does not need
    assert pixel(1, 0.35) != [224, 138, 0]
    assert "confidence 0 to 1" in page.locator("#legend").inner_text()
    tinted = panel(page, 0).locator(".token").first.evaluate("token => token.style.background")
    assert tinted.startswith("rgb(")
    for _ in range(2):
        page.locator("#theme").click()  # light, dark
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"


def test_it_works_from_the_keyboard(page_file: Path, traces: list[Trace], open_page: Opener) -> None:
    page = open_page(page_file)
    where = page.locator("#where")
    page.locator("#at").focus()
    page.keyboard.press("Home")
    assert where.inner_text().startswith("step 0 of")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert where.inner_text().startswith("step 2 of")
    assert page.locator("#at").get_attribute("aria-valuetext") == where.inner_text()
    panel(page, 0).locator(".map canvas").focus()
    page.keyboard.press("ArrowDown")
    assert where.inner_text().startswith("step 3 of")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    tip = page.locator("#tip").inner_text()
    assert f"position {len(traces[0].prompt.ids) + 4}: token 4 of 64 generated, block 1" in tip
    assert "step 3: " in tip
    page.locator("#play").focus()
    page.keyboard.press("End")
    page.keyboard.press("Space")
    page.locator("#play", has_text="Stop").wait_for()
    page.locator("#where", has_text=re.compile(r"step [4-9] of")).wait_for()
    page.keyboard.press("Space")
    page.locator("#play", has_text="Play").wait_for()


def test_by_time_each_stands_where_it_was_by_then(page_file: Path, traces: list[Trace], open_page: Opener) -> None:
    page = open_page(page_file)
    page.locator("#by input[value=time]").check(force=True)
    ends = []
    for trace in traces:
        passed = [round(1000 * step.seconds, 3) for step in trace.steps]
        ends.append([sum(passed[: number + 1]) for number in range(len(passed))])
    moments = sorted({end for run in ends for end in run})
    assert page.locator("#at").get_attribute("max") == str(len(moments))
    for moment in (1, len(moments) // 2, len(moments)):
        move(page, moment)
        for number, run in enumerate(ends):
            step = sum(end <= moments[moment - 1] + 1e-6 for end in run)
            said = panel(page, number).locator(".status").inner_text()
            assert said.startswith(f"step {step} of" if step else "before the first forward")


def test_the_pointer_is_told_what_it_points_at(single_file: Path, rows_only: Trace, open_page: Opener) -> None:
    page = open_page(single_file)
    token = panel(page, 0).locator(".token").nth(2)
    token.hover()
    tip = page.locator("#tip").inner_text()
    assert (rows_only.token_texts[2] or "").strip() in tip
    assert re.search(rf"committed in step {commit_steps(rows_only)[2]}, confidence [01]\.\d{{3}}", tip)
    box = panel(page, 0).locator(".map canvas").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 0.1, box["y"] + 1)
    assert "position 0, in the prompt" in page.locator("#tip").inner_text()
    assert page.locator("#where").inner_text().startswith("step 1 of")


def test_nothing_sticks_out_of_a_narrow_window(page_file: Path, open_page: Opener) -> None:
    page = open_page(page_file, viewport={"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_what_was_generated_is_text_wherever_it_stands(traces: list[Trace], tmp_path: Path, open_page: Opener) -> None:
    def hostile(trace: Trace) -> Trace:
        said: list[str | None] = [ATTACKS[place % len(ATTACKS)] for place in range(len(trace.ids))]
        everything = "".join(ATTACKS)
        prompt = replace(trace.prompt, text=everything, question=everything, target=everything, task=ATTACKS[0])
        answer = replace(trace.answer, text=everything, raw=everything)
        return replace(
            trace,
            prompt=prompt,
            answer=answer,
            token_texts=said,
            prompt_texts=said[:1] * len(trace.prompt.ids),
            special=frozenset(),
        )

    page = open_page(write(tmp_path / "odd.html", [hostile(trace) for trace in traces]))
    assert shown(page, 0)[0]["text"] == ATTACKS[0]
    for place in ("h1 + p", "#question", ".text >> nth=0"):
        assert ATTACKS[0] in (page.locator(place).text_content() or "")
    assert "".join(ATTACKS) == page.locator("#prompt").text_content()
    panel(page, 0).locator(".token").first.hover()
    assert ATTACKS[0] in page.locator("#tip").inner_text()
    assert page.locator("main img, main script, #tip img, #tip script").count() == 0  # and no dialog was opened


def test_a_page_is_small_and_comes_from_its_traces_alone(page_file: Path, traces: list[Trace]) -> None:
    text = page_file.read_text(encoding="utf-8")
    assert text == render(traces)
    assert len(text) < 120_000
    assert "default-src 'none'" in html.unescape(text)
