"""leaderboard.html in a real browser: windows and themes, pages without scripts, odd names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from cache_zoo import UsageError
from evaluation.report.html import render_page
from tests.page_frames import PUBLISHED, Opener, drawn, frame, rows

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.mark.parametrize("width", [400, pytest.param(800, marks=pytest.mark.slow), 1600])
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
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
        assert ATTACKS[0] in (page.locator(place).text_content() or "")
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
    assert sorted(map(str, hrefs)) == sorted(f"./{folder}/" for folder in frame()["folder"])


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
