"""leaderboard.html in a real browser without a network: its table, charts and pages of caches."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evaluation.report.html import render_page
from tests.page_frames import Opener, column, drawn, frame, heads, made, mix, rows


def test_it_loads_by_itself_and_draws_a_front_per_model_and_dataset(page_file: Path, opened: Opener) -> None:
    page = opened(page_file)
    titles = page.locator("#front-panels figcaption").all_inner_texts()
    assert [title.split(" · ")[0] for title in titles] == ["nano-dream", "nano-dream", "nano-llada", "nano-llada"]
    panel = page.locator("#front-panels .panel").nth(3)
    measured = frame().query("model == 'nano-llada' and task == 'nano-gsm' and score.notna()")
    assert panel.locator(".mark-symbol path").count() == len(measured)
    bars = panel.locator(".mark-rule.role-mark line")
    assert bars.count() == 1 + len(measured) + measured["speedup_high"].notna().sum()  # and the line at 1
    assert (
        page.locator("#count").inner_text()
        == f"{len(frame())} of {len(frame())} runs, {frame()['ranked'].sum()} ranked"
    )


@pytest.mark.parametrize("key", ["tokens_per_second", "compute_ratio", "diff"])
def test_a_column_of_numbers_sorts_by_number(page_file: Path, opened: Opener, key: str) -> None:
    page = opened(page_file)
    mix(page)
    heading = page.locator(f"#runs thead [data-key={key}]")
    heading.locator("button").focus()
    for direction in (heading.get_attribute("data-better") == "less", heading.get_attribute("data-better") != "less"):
        page.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == ("ascending" if direction else "descending")
        texts = column(page, key, "tr:not(.unranked, .section)")
        figures = [float(text) for text in texts if text != "N/A"]
        assert figures == sorted(figures, reverse=not direction)
        assert len(set(figures)) > 5
        assert texts[len(figures) :] == ["N/A"] * (len(texts) - len(figures))  # at the end either way


def test_runs_that_are_not_ranked_stay_behind_all_others(page_file: Path, opened: Opener) -> None:
    page = opened(page_file)
    mix(page)
    for key in ("score", "nfe", "task"):
        for _ in ("one way", "the other"):
            page.locator(f"#runs thead [data-key={key}] button").click()
            unranked = rows(page).evaluate_all("rows => rows.map(row => row.classList.contains('unranked'))")
            assert unranked == sorted(unranked)
            assert sum(unranked) == (~frame()["ranked"]).sum()


def test_sorting_keeps_runs_together_that_are_compared_with_each_other(page_file: Path, opened: Opener) -> None:
    page = opened(page_file)
    groups = frame()[frame()["ranked"]].groupby("group", sort=False)
    before = heads(page)
    assert len([head for head in before if not head.endswith("not ranked")]) == len(groups)
    assert before[0] == "nano-dream \u00b7 nano-code \u00b7 vanilla block_length=32 batch_size=4"
    assert "batch 4 \u00b7 seed 1234" in page.locator("#runs .section small").first.inner_text()
    assert not page.locator("#runs thead [data-key=model]").is_visible()  # the heads say it
    page.locator("#runs thead [data-key=nfe] button").click()
    assert heads(page) == before
    shown = page.locator("#runs tbody").evaluate_all(
        """all => all.map(part => [...part.querySelectorAll('tr[data-row]')].map(row => Number(row.dataset.row)))"""
    )
    assert sorted(number for part in shown for number in part) == list(range(len(frame())))
    for part in shown:
        runs = frame().iloc[part]
        assert runs["ranked"].nunique() == 1
        assert runs["group"].nunique() <= 1 or not runs["ranked"].any()
        assert runs.groupby(["model", "task"]).ngroups == 1
        figures = runs["nfe"].dropna().tolist()
        assert figures == sorted(figures)
    mix(page)
    assert heads(page) == []
    assert page.locator("#runs thead [data-key=model]").is_visible()
    figures = [float(text) for text in column(page, "nfe", "tr:not(.unranked, .section)") if text != "N/A"]
    assert figures == sorted(figures)  # the order stays that of the column
    page.locator("#together input").check()
    assert heads(page) == before


def test_a_section_without_runs_that_are_shown_has_no_head(page_file: Path, opened: Opener) -> None:
    page = opened(page_file)
    page.locator("#search").fill("nano-code d2cache threshold=0.9")
    page.locator("#count").filter(has_text=re.compile("^2 of")).wait_for()
    drawn(page)
    assert heads(page) == [
        f"{model} \u00b7 nano-code \u00b7 vanilla block_length=32 threshold=0.9 batch_size=4"
        for model in ("nano-dream", "nano-llada")
    ]
    page.locator("#search").fill("oom")
    page.locator("#count").filter(has_text=re.compile("^1 of")).wait_for()
    assert heads(page) == ["nano-llada \u00b7 nano-gsm \u00b7 not ranked"]
    assert "vanilla block_length=32" in rows(page).inner_text()  # what the head can't say


def test_the_run_without_a_cache_is_marked_as_the_baseline(page_file: Path, opened: Opener) -> None:
    page = opened(page_file)
    assert rows(page).filter(has_text="baseline").count() == (frame()["cache"] == "none").sum()


def test_what_has_no_result_is_seen_marked_and_never_on_a_front(page_file: Path, opened: Opener) -> None:
    page = opened(page_file)
    for status in ("failed", "oom", "skipped", "partial", "running"):
        row = rows(page).filter(has=page.locator(f".status-{status}"))
        assert row.count() == 1
        assert "not ranked" in row.inner_text()
        assert "N/A" in row.inner_text()
    failed = rows(page).filter(has=page.locator(".status-failed"))
    failed.locator("summary").click()
    assert "RuntimeError" in failed.locator("pre").inner_text()
    part = rows(page).filter(has_text="20/500")
    assert part.count() == 2
    assert part.filter(has_text="not ranked").count() == 2
    for measure in ("speedup", "tokens_per_second", "compute_ratio", "tokens_per_forward", "nfe"):
        page.locator(f"#measure input[value={measure}]").check(force=True)
        drawn(page)
        assert page.locator("#runs .front:visible").count() > 0
        assert page.locator("#runs .unranked .front:visible").count() == 0
        hollow = page.locator("#front-panels .mark-symbol path[fill-opacity='0']")
        assert hollow.count() == 2


def test_filters_hide_rows_and_points(page_file: Path, opened: Opener) -> None:
    page = opened(page_file)
    page.locator(".filter[data-key=model] summary").click()
    page.locator(".filter[data-key=model] label").filter(has_text="nano-dream").click()
    page.keyboard.press("Escape")
    drawn(page)
    assert set(column(page, "model")) == {"nano-llada"}
    assert page.locator("#front-panels .panel").count() == 2
    page.locator("#search").fill("DUAL threshold=0.5")
    page.locator("#count").filter(has_text=re.compile("^1 of")).wait_for()
    drawn(page)
    assert column(page, "decoding") == ["vanilla block_length=32 threshold=0.5 batch_size=4"]
    page.locator("#search").fill("no such run")
    page.locator("#none-shown").wait_for()
    page.get_by_role("button", name="Reset").click()
    page.locator("#count").filter(has_text=re.compile(f"^{len(frame())} of")).wait_for()
    assert rows(page).count() == len(frame())


def test_filters_work_from_the_keyboard(page_file: Path, opened: Opener) -> None:
    page = opened(page_file)
    page.locator(".filter[data-key=cache] summary").focus()
    page.keyboard.press("Enter")
    page.locator(".filter[data-key=cache] input[value=dllm]").focus()
    page.keyboard.press("Space")
    assert rows(page).filter(has=page.locator("[href='#cache-dllm']")).count() == 0
    page.keyboard.press("Escape")
    assert not page.locator(".filter[data-key=cache] fieldset").is_visible()
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_the_front_follows_what_is_chosen_as_speed(page_file: Path, opened: Opener) -> None:
    page = opened(page_file)
    panel = page.locator("#front-panels .panel").nth(3)
    titles = {}
    for measure in ("speedup", "tokens_per_second", "compute_ratio", "tokens_per_forward", "nfe"):
        page.locator(f"#measure input[value={measure}]").check(force=True)
        drawn(page)
        titles[measure] = panel.locator(".role-axis-title text").first.text_content()
    assert titles["speedup"].startswith("times as fast")
    assert len(set(titles.values())) == 5
    # Fewer forwards are better and to the right; runs on the front are those that a plain loop finds.
    ours = frame().query("model == 'nano-llada' and task == 'nano-gsm' and ranked")
    best = {
        run.config_hash
        for run in ours.itertuples()
        if not any(
            other.nfe <= run.nfe and other.score >= run.score and (other.nfe, other.score) != (run.nfe, run.score)
            for other in ours.itertuples()
        )
    }
    links = page.locator("#runs tr", has=page.locator(".front:visible")).get_by_role("link", name="folder")
    marked = {str(link.get_attribute("href")).strip("/").rpartition("__")[2] for link in links.all()}
    assert marked & set(ours["config_hash"]) == best


def test_a_run_that_is_not_ranked_beats_no_other(tmp_path: Path, opened: Opener) -> None:
    path = tmp_path / "part.html"
    part = made(score=[0.8, 0.6, 0.9], nfe=[8.0, 4.0, 2.0], ranked=[True, True, False], folder=["a", "b", "c"])
    path.write_text(render_page(part), encoding="utf-8")
    page = opened(path)
    page.locator("#measure input[value=nfe]").check(force=True)
    drawn(page)
    shown = page.locator("#runs tr", has=page.locator(".front:visible")).get_by_role("link", name="folder")
    assert [link.get_attribute("href") for link in shown.all()] == ["./a/", "./b/"]


def test_speed_ups_of_different_decodings_are_on_fronts_of_their_own(page_file: Path, opened: Opener) -> None:
    page = opened(page_file)
    shown = page.locator("#runs tr", has=page.locator(".front:visible"))
    for threshold in ("0.5", "0.9"):
        assert shown.filter(has_text=f"threshold={threshold}").count() > 0
    assert "front of its own" in page.locator("#timed").inner_text()


def test_a_cache_has_a_page_of_its_own(page_file: Path, opened: Opener) -> None:
    page = opened(page_file, "#cache-dllm")
    article = page.locator("#scope article")
    for text in ("dLLM-Cache, arXiv 2506.06295", "steps between refreshes of the prompt", "kp=1 kr=1"):
        assert text in article.inner_text()
    assert article.locator("a[href='https://arxiv.org/abs/2506.06295']").is_visible()
    assert page.title().startswith("dllm")
    assert page.evaluate("scrollY") == 0  # the way back is in sight
    assert rows(page).count() == (frame()["cache"] == "dllm").sum()
    page.get_by_role("link", name="All caches").click()
    drawn(page)
    assert rows(page).count() == len(frame())
    page.locator("#caches").get_by_role("link", name="d2cache", exact=True).click()
    drawn(page)
    assert rows(page).count() == (frame()["cache"] == "d2cache").sum()
    page.get_by_role("navigation").get_by_role("link", name="Table").click()  # a part of the page that is open
    assert rows(page).count() == (frame()["cache"] == "d2cache").sum()
    page.go_back()
    page.go_back()
    drawn(page)
    assert rows(page).count() == len(frame())


def test_columns_can_be_shown_and_hidden(page_file: Path, opened: Opener) -> None:
    page = opened(page_file)
    seed = page.locator("#runs thead [data-key=seed]")
    assert not seed.is_visible()
    page.get_by_label("Setting").check()
    assert seed.is_visible()
    page.get_by_label("Quality").uncheck()
    assert not page.locator("#runs thead [data-key=score]").is_visible()


def test_curves_are_drawn_for_what_varies(page_file: Path, opened: Opener) -> None:
    page = opened(page_file)
    names = page.locator("#parameter span").all_inner_texts()
    assert names == ["cache.kp", "cache.kr", "generation.threshold"]
    page.locator("#parameter input[value='cache.kr']").check(force=True)
    drawn(page)
    plots = page.locator("#curve-panels .plot")
    assert plots.count() == 2
    assert [plot.locator(".mark-symbol path").count() for plot in plots.all()] == [5, 5]
    labels = plots.first.locator(".role-axis-label text").all_text_contents()
    assert [text for text in labels if text.isdigit()] == ["1", "2", "4", "8", "16"]


def test_published_figures_are_marked_as_theirs(page_file: Path, opened: Opener) -> None:
    page = opened(page_file)
    row = page.locator("#theirs-table tbody tr")
    assert "theirs" in row.inner_text()
    assert row.get_by_role("link").get_attribute("href") == "https://arxiv.org/abs/0000.00000"
    crosses = page.locator("#front-panels text", has_text="\u00d7")
    assert crosses.count() == 0
    page.locator("#theirs").check()
    drawn(page)
    assert crosses.count() == 1
    assert "their cache" not in page.locator("#runs").inner_text()


def test_a_point_tells_its_run_and_leads_to_its_row(page_file: Path, opened: Opener) -> None:
    page = opened(page_file)
    panel = page.locator("#front-panels .panel").nth(1)
    spot = panel.locator(".mark-symbol path").first
    spot.hover(force=True)
    tip = page.locator("#vg-tooltip-element")
    assert "undefined" not in tip.inner_text()
    assert "vanilla block_length=32" in tip.inner_text()
    spot.click(force=True)
    flashed = page.locator("#runs tr.flash")
    assert flashed.count() == 1
    assert "nano-dream" in (flashed.text_content() or "")
