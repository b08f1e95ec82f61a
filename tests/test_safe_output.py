"""Texts of a run folder are untrusted; the files made of them are safe to open, render and print."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cache_zoo.errors import refusing, require, visible
from evaluation.report import compare as compare_program
from evaluation.report import leaderboard, table
from evaluation.report.columns import CSV_TYPES
from evaluation.report.html import render_page
from evaluation.report.leaderboard import plain_text, render_csv
from evaluation.report.markdown import escaped, render_markdown
from evaluation.report.rows import read_rows
from evaluation.storage.find_runs import find_runs
from evaluation.storage.saved_run import SavedRun
from tests.page_frames import Opener, made
from tests.small_runs import call, edit_results, pick

HOSTILE = [
    '=HYPERLINK("http://evil.example","x")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "a; =1+1",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "</script><script>alert(1)</script>",
    "{{ 7*7 }}{% raw %}",
    "[x](javascript:alert(1))",
    "![x](http://evil.example/a.png)",
    "http://evil.example www.evil.example a@evil.example",
    "<http://evil.example>",
    "`code` **bold** _em_ ~~no~~ $math$ @somebody #1 :smile:",
    "a|b|c",
    "javascript:alert(1)",
    "x&lt;b&gt;&#60;",
    "\\[x\\](http://evil.example)",
]
UNPRINTABLE = ["\x1b[31mred", "\x07bell", "a\x00b", "\u202egpj.exe", "\u2028", "\ud800", "\r\nline", "\x9b2J", "\ufeff"]


@pytest.mark.parametrize("text", UNPRINTABLE)
def test_what_does_not_print_is_escaped(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert shown.isascii() or "\ufeff" not in shown
    assert "\\" in shown
    assert visible(shown) == shown


def test_printed_text_stays() -> None:
    for text in ("plain", "naïve 数学 😀", ""):
        assert visible(text) == text


def test_an_error_prints_no_codes(capsys: pytest.CaptureFixture[str]) -> None:
    @refusing
    def main() -> int:
        require(False, "no \x1b[2J\ud800 folder\nsecond line")
        return 0

    assert main() == 2
    assert capsys.readouterr().err == "error: no \\x1b[2J\\ud800 folder\nsecond line\n"


def frame_of(texts: list[str]) -> pd.DataFrame:
    """A run per text, in all columns of text."""
    columns = [key for key, kind in CSV_TYPES.items() if kind == "object"]
    return frame_with(len(texts), **dict.fromkeys(columns, texts))


def frame_with(count: int, **columns: Any) -> pd.DataFrame:
    """Rows as `read_rows` makes them, with these values only."""
    empty = {key: [False if key == "ranked" else None] * count for key in CSV_TYPES}
    filled = {**empty, **columns}
    return pd.DataFrame({key: pd.array(filled[key], dtype=kind) for key, kind in CSV_TYPES.items()})


def test_the_csv_holds_no_formula() -> None:
    text = render_csv(frame_of(HOSTILE))
    for row in list(csv.reader(io.StringIO(text)))[1:]:
        for cell in row:
            for part in cell.split(";"):
                assert part.lstrip()[:1] not in ("=", "+", "-", "@", "\t", "\r"), cell
    assert plain_text("=1") == "'=1"
    assert plain_text("\t=1") == "\\t=1"
    assert plain_text("  @x") == "  '@x"
    assert plain_text("\uff1d1") == "'\uff1d1"
    assert plain_text("a; +1") == "a; '+1"
    assert plain_text("alg=maskgit_plus temperature=-1") == "alg=maskgit_plus temperature=-1"
    assert plain_text(None) is None


@pytest.mark.parametrize("text", HOSTILE)
def test_the_markdown_holds_no_markup_of_a_run(text: str) -> None:
    document = render_markdown(frame_of([text]))
    own = re.sub(r"\\.", "", document).split("\n## ", 1)[1]  # what is escaped says nothing
    assert "<" not in own
    shown = re.sub(r"\]\([^)]*\)", "]", own)
    assert not re.search(r"https?:|www\.|javascript:\w|@\w|\$|~~|`|\*\*[^*\n]*bold", shown)
    links = re.findall(r"\]\(([^)]*)\)", own)
    assert all(link.startswith("./") for link in links)
    assert len(links) == 1
    lines = [line for line in own.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert "\n" not in escaped(text + "\n\n# title")


def test_markdown_keeps_plain_words() -> None:
    for text in ("alg=maskgit_plus temperature=0.0", "Intel(R) Xeon(R) CPU @ 2.20GHz".replace("@", "at"), "pass, none"):
        assert escaped(text) == text


def test_the_page_runs_and_loads_nothing(opened: Opener, tmp_path: Path) -> None:
    """`opened` fails on any request, dialog, message or error."""
    texts = [*HOSTILE, *(text for text in UNPRINTABLE if text != "\ud800")]  # which no frame holds
    ranked = [number % 2 == 0 for number in range(len(texts))]
    frame = frame_of(texts).assign(ranked=ranked, score=0.5, nfe=1.0, compute_ratio=0.5, tokens_per_second=2.0)
    path = tmp_path / "leaderboard.html"
    path.write_text(render_page(frame), encoding="utf-8")
    page = opened(path)
    rows = page.locator("#runs tbody tr[data-row]")
    assert rows.count() == len(texts)
    assert page.locator("#runs script, #runs img, #runs svg, #articles svg, #articles img").count() == 0
    links = page.locator("#runs td a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert len(links) == len(texts)
    assert all(re.match(r"\./|#", link) for link in links)


def test_the_page_does_without_anything() -> None:
    assert "N/A" in render_page(frame_with(2))
    whole = {key: "1" if kind == "object" else 1 for key, kind in CSV_TYPES.items()}
    rows = [{**whole, key: None} for key in CSV_TYPES]
    frame = pd.DataFrame({key: pd.array([row[key] for row in rows], dtype=kind) for key, kind in CSV_TYPES.items()})
    assert render_page(frame.assign(ranked=True)).count('data-row="') == len(CSV_TYPES)


def test_odd_parameters_are_no_curve() -> None:
    odd = ["k=nan", "k=inf", "k=1e999", f"k={'9' * 5000}", "k=1_0", "=", "k=", "k=[1, 2]", "k=1", None]
    render_page(made(cache_parameters=odd, decoder_settings=odd[::-1]))


def test_an_odd_name_of_a_folder_is_shown_as_it_can_be(
    results: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = pick(results, "dual")
    for name in (b"=cmd", b"\x1b[31m", b"\xff\xfe", b"a\nb", b"<b>x", b"-rf"):
        shutil.copytree(run, results / os.fsdecode(name))
    (results / "<b>x" / "results.json").write_text("{")
    assert call(monkeypatch, table, results) == 0
    assert call(monkeypatch, table, results, "markdown=true") == 0
    assert call(monkeypatch, leaderboard, results) == 0
    assert call(monkeypatch, compare_program, results / "\x1b[32m", results) == 2
    assert call(monkeypatch, compare_program, results / "\udcff\udcfe", results / "=cmd") == 2
    told = capfd.readouterr()
    assert "\x1b" not in told.out + told.err
    assert "\\x1b[32m" in told.err
    text = (results / "leaderboard.csv").read_text(encoding="utf-8")
    assert "\\udcff\\udcfe" in text
    assert "\n'=cmd" not in text
    assert ",'=cmd\n" in text


def test_any_text_in_a_run_is_written(results: Path) -> None:
    run, baseline = pick(results, "dual"), SavedRun(pick(results, "none"))
    plain = (run / "results.json").read_text()
    for text in (*HOSTILE, *UNPRINTABLE):

        def change(found: dict[str, Any], text: str = text) -> None:
            found["summary"].update(note=text, dataset=text)
            found["provenance"]["versions"]["torch"] = text
            found["provenance"]["machine"]["gpu"] = text

        (run / "results.json").write_text(plain)
        edit_results(run, change)
        frame = read_rows({"a": SavedRun(run), "b": baseline})
        for written in (render_csv(frame), render_markdown(frame)):
            assert all(line.isprintable() for line in written.splitlines()), text
        row = next(row for row in frame.to_dict("records") if row["folder"] == "a")
        assert ("results.json" in row["note"]) == (text in UNPRINTABLE), text


def test_a_leaderboard_of_damaged_runs_alone(tmp_path: Path) -> None:
    for number in range(3):
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        (folder / "status.json").write_text("{" * number)
    frame = leaderboard.make_leaderboard([tmp_path], tmp_path)
    assert list(frame["ranked"]) == [False] * 3
    assert frame["note"].notna().all()
    assert len(find_runs([tmp_path], tmp_path)) == 3
