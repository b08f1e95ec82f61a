"""leaderboard.html, in a real browser without a network.

``data/leaderboard.csv`` has runs of nano-llada and nano-dream on the first 60 questions of nano-gsm and the first 40 of
nano-code, two of a part of nano-gsm, and five edited rows: failed, oom, skipped, partial and running.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from cache_zoo import UsageError, list_caches
from evaluation.page import render_page
from evaluation.page.curves import find_curves
from evaluation.page.facts import _linked, cache_facts
from evaluation.page.rows import plain_rows

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

FIXTURE = Path(__file__).parent / "data" / "leaderboard.csv"
PUBLISHED = pd.DataFrame(
    {
        "paper": ["A paper"],
        "arxiv": ["0000.00000"],
        "table": ["table 1"],
        "model": ["nano-llada"],
        "task": ["nano-gsm"],
        "method": ["their cache"],
        "score": [0.8],
        "tokens_per_second": [50.0],
        "speedup": [4.5],
        "hardware": ["their machine"],
        "note": [None],
    }
)
Opener = Callable[..., "Page"]


def frame() -> pd.DataFrame:
    return pd.read_csv(FIXTURE, dtype={"config_hash": str})


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "leaderboard.html"
    path.write_text(render_page(frame(), PUBLISHED), encoding="utf-8")
    return path


@pytest.fixture
def opened(open_page: Opener) -> Opener:
    """Opens a page and waits until it is drawn."""

    def opener(path: Path, anchor: str = "", **options: Any) -> Page:
        page = open_page(path, anchor, **options)
        drawn(page)
        return page

    return opener


def drawn(page: Page) -> None:
    """Wait until all charts are."""
    page.wait_for_timeout(50)  # a change is answered in the next turn of the page
    for gallery in ("#front-panels", "#curve-panels"):
        page.wait_for_selector(f"{gallery}[data-drawn=yes]", state="attached")


def rows(page: Page) -> Locator:
    return page.locator("#runs tbody tr:visible")


def column(page: Page, key: str, which: str = "tr") -> list[str]:
    """Texts of a column of the rows that can be seen, without intervals."""
    index = page.locator(f"#runs thead [data-key={key}]").evaluate("cell => cell.cellIndex")
    texts = page.locator(f"#runs tbody {which}:visible").evaluate_all(
        "(rows, index) => rows.map(row => row.cells[index].firstChild?.textContent.trim() ?? '')", index
    )
    return list(texts)


def test_the_page_is_a_function_of_its_arguments(page_file: Path) -> None:
    assert render_page(frame(), PUBLISHED) == page_file.read_text(encoding="utf-8")


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
    heading = page.locator(f"#runs thead [data-key={key}]")
    heading.locator("button").focus()
    for direction in (heading.get_attribute("data-better") == "less", heading.get_attribute("data-better") != "less"):
        page.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == ("ascending" if direction else "descending")
        texts = column(page, key, "tr:not(.unranked)")
        figures = [float(text) for text in texts if text != "N/A"]
        assert figures == sorted(figures, reverse=not direction)
        assert len(set(figures)) > 5
        assert texts[len(figures) :] == ["N/A"] * (len(texts) - len(figures))  # at the end either way


def test_runs_that_are_not_ranked_stay_behind_all_others(page_file: Path, opened: Opener) -> None:
    page = opened(page_file)
    for key in ("score", "nfe", "task"):
        for _ in ("one way", "the other"):
            page.locator(f"#runs thead [data-key={key}] button").click()
            unranked = rows(page).evaluate_all("rows => rows.map(row => row.classList.contains('unranked'))")
            assert unranked == sorted(unranked)
            assert sum(unranked) == (~frame()["ranked"]).sum()


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
    assert column(page, "decoding") == ["vanilla block_length=32 threshold=0.5"]
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


def test_a_run_that_is_not_ranked_beats_nobody(tmp_path: Path, opened: Opener) -> None:
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
    assert "nano-dream" in flashed.inner_text()


@pytest.mark.parametrize("width", [400, 800, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_windows_narrow_and_wide_light_and_dark(
    page_file: Path, opened: Opener, width: int, scheme: str
) -> None:
    page = opened(page_file, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    back, ink = page.evaluate(
        "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
    )
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (back, ink)]
    assert (brightness[0] > brightness[1]) == (scheme == "light")
    assert abs(brightness[0] - brightness[1]) > 500
    label = page.locator("#front-panels .role-axis-label text").first.get_attribute("fill")
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("button", name="Theme").click()
    drawn(page)
    relabelled = page.locator("#front-panels .role-axis-label text").first.get_attribute("fill")
    assert (relabelled == label) == (scheme == "dark")


def test_the_table_is_there_without_scripts(page_file: Path, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert rows(page).count() == len(frame())
    assert "steps between refreshes of the prompt" in page.locator("#cache-dllm").inner_text()
    context.close()


ATTACKS = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "<!--<script>",
    "{{ 7 * 7 }}",
)


def test_names_are_texts_wherever_they_stand(tmp_path: Path, opened: Opener) -> None:
    odd = frame()
    for key in (
        "model",
        "cache",
        "task",
        "decoder_settings",
        "cache_parameters",
        "machine",
        "note",
        "metric",
        "status",
    ):
        odd[key] = odd[key].astype(object)
        odd.loc[odd.index[: len(ATTACKS)], key] = ATTACKS
    odd["folder"] = odd["folder"].replace({odd.loc[5, "folder"]: "javascript:alert(4)"})
    odd.loc[odd.index[: len(ATTACKS)], "model"] = ATTACKS[0]
    odd.loc[odd.index[: len(ATTACKS)], "task"] = "nano-gsm"
    theirs = PUBLISHED.assign(method=ATTACKS[1], model=ATTACKS[0], arxiv="javascript:alert(5)", note=ATTACKS[2])
    path = tmp_path / "odd.html"
    path.write_text(render_page(odd, theirs), encoding="utf-8")
    page = opened(path)
    page.locator("#theirs").check()
    drawn(page)
    for place in ("#runs", "#articles", "#front-panels", "#bar", "#theirs-table"):
        assert ATTACKS[0] in page.locator(place).text_content()
    assert "{{ 7 * 7 }}" in page.locator("#runs").inner_text()
    assert page.locator("main img, main script").count() == 0
    assert page.locator("a[href^='javascript']").count() == 0
    panel = page.locator("#front-panels .panel", has_text=ATTACKS[0])
    panel.locator(".mark-symbol path").first.hover(force=True)
    assert page.locator("#vg-tooltip-element img, #vg-tooltip-element script").count() == 0
    page.locator("#articles").get_by_role("link", name=ATTACKS[0], exact=True).click()
    drawn(page)
    assert rows(page).count() == 1  # the opener has seen that no dialog was opened


def test_a_script_that_is_not_the_pages_own_does_not_run(page_file: Path, tmp_path: Path, browser: Browser) -> None:
    path = tmp_path / "changed.html"
    text = page_file.read_text(encoding="utf-8").replace("</main>", "</main><script>window.ran = true</script>")
    path.write_text(text, encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    drawn(page)
    assert page.evaluate("window.ran") is None
    refused = """new Promise((tell) => {
        addEventListener("securitypolicyviolation", (event) => tell(event.effectiveDirective));
        fetch("https://example.org").catch(() => setTimeout(tell, 1000, "nothing"));
    })"""
    assert page.evaluate(refused) == "connect-src"
    page.close()


def test_links_lead_to_run_folders(page_file: Path, opened: Opener) -> None:
    page = opened(page_file)
    hrefs = [link.get_attribute("href") for link in rows(page).get_by_role("link", name="folder").all()]
    assert hrefs == [f"./{folder}/" for folder in frame()["folder"]]


def test_rows_without_columns_and_a_page_without_rows(tmp_path: Path, opened: Opener) -> None:
    path = tmp_path / "bare.html"
    bare = pd.DataFrame({"model": ["m"], "cache": ["none"], "task": ["t"], "status": ["failed"]})
    path.write_text(render_page(bare), encoding="utf-8")
    page = opened(path)
    assert "not ranked" in rows(page).inner_text()
    path.write_text(render_page(bare.iloc[:0]), encoding="utf-8")
    assert rows(opened(path)).count() == 0
    with pytest.raises(UsageError, match="no column 'cache'"):
        render_page(bare.drop(columns="cache"))


def test_missing_figures_are_missing_and_no_number_is_made_of_them() -> None:
    (row,) = plain_rows(made(score=[None], ranked=[None]))
    assert row["score"] is None
    assert row["ranked"] is False
    assert re.findall(r">(?:nan|nat|inf)\b", render_page(frame()), flags=re.IGNORECASE) == []


def test_without_the_plotting_library_one_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)  # what an import finds where it is not installed
    with pytest.raises(UsageError, match="pip install vl-convert-python"):
        render_page(frame())


def made(**columns: Any) -> pd.DataFrame:
    """Finished runs of one cell, which differ as said."""
    count = len(next(iter(columns.values())))
    same = {"model": "m", "task": "t", "cache": "c", "status": "done", "ranked": True, "score": 0.5, "n": 10}
    return pd.DataFrame({**{key: [value] * count for key, value in same.items()}, **columns})


def test_a_curve_takes_all_else_to_be_equal() -> None:
    curves = find_curves(
        plain_rows(made(cache_parameters=["every=4 k=1", "every=1 k=1", "every=2 k=2", "every=2 k=1"]))
    )
    (every, k) = sorted(curves, key=lambda curve: curve.parameter)
    assert (every.parameter, every.runs, every.values) == ("cache.every", [1, 3, 0], [1, 2, 4])
    assert (k.parameter, k.runs, k.values) == ("cache.k", [3, 2], [1, 2])
    for key, values in {"n": [10, 20], "batch_size": [1, 4], "machine": ["a", "b"], "dtype": ["a", "b"]}.items():
        apart = made(cache_parameters=["every=1", "every=2"], **{key: values})
        assert find_curves(plain_rows(apart)) == [], key


def test_curves_of_one_cache_say_what_sets_them_apart() -> None:
    four = made(cache_parameters=["a=1", "a=2", "a=1", "a=2"], threshold=[0.9, 0.9, None, None])
    curves = find_curves(plain_rows(four))
    assert [(curve.parameter, curve.fixed) for curve in curves] == [
        ("cache.a", "threshold=0.9"),
        ("cache.a", "threshold=null"),
        ("generation.threshold", "a=1"),
        ("generation.threshold", "a=2"),
    ]
    assert curves[2].values == [None, 0.9]


def test_words_and_runs_without_figures_make_no_curve() -> None:
    assert find_curves(plain_rows(made(cache_parameters=["mode=live", "mode=first"]))) == []
    assert find_curves(plain_rows(made(cache_parameters=["a=1", "a=2"], score=[0.5, None]))) == []


def test_runs_of_other_shots_or_lengths_have_panels_of_their_own() -> None:
    panels = [row["panel"] for row in plain_rows(made(n_shot=[0, 4, 4], gen_length=[128, 128, 256]))]
    assert panels == [
        "m · t · n_shot=0 · gen_length=128",
        "m · t · n_shot=4 · gen_length=128",
        "m · t · n_shot=4 · gen_length=256",
    ]
    assert {row["panel"] for row in plain_rows(made(n_shot=[4, 4]))} == {"m · t"}


@pytest.mark.parametrize("name", list_caches())
def test_the_facts_of_a_cache_are_those_of_its_class(name: str) -> None:
    facts = cache_facts(name)
    assert facts.registered
    assert facts.text
    assert "https://arxiv.org/abs/" in facts.paper
    assert all(parameter.help for parameter in facts.parameters)


def test_a_cache_that_is_not_registered_has_rows_all_the_same() -> None:
    text = render_page(made(cache=["Unheard", "un heard"]))
    assert re.findall(r'<article id="([^"]+)"', text) == ["cache-Unheard", "cache-un-heard"]
    assert "Not registered where this page was made" in text


def test_the_fixture_is_in_the_page(page_file: Path) -> None:
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', page_file.read_text(encoding="utf-8")
    )
    assert found is not None
    data = json.loads(found[1])
    assert len(data["rows"]) == len(frame())
    assert page_file.stat().st_size < 2e6


def test_decoding_is_told_by_what_differs() -> None:
    same = {"decoder": ["vanilla"] * 3, "decoder_settings": ["alg=a", "alg=a", "alg=b"]}
    told = [row["decoding"] for row in plain_rows(made(**same, threshold=[None, 0.9, 0.9], block_length=[32, 32, 32]))]
    assert told == ["vanilla alg=a", "vanilla threshold=0.9 alg=a", "vanilla threshold=0.9 alg=b"]


def test_addresses_and_arxiv_ids_of_a_paper_are_links() -> None:
    linked = _linked("A <b>, arXiv 2401.00001v2; https://arxiv.org/abs/2402.00002, https://example.org/a?b&c.")
    assert re.findall('<a href="(.*?)">', linked) == [
        "https://arxiv.org/abs/2401.00001",
        "https://arxiv.org/abs/2402.00002",
        "https://example.org/a?b&amp;c",
    ]
    assert linked.startswith("A &lt;b&gt;, arXiv ")
