"""leaderboard.html as text: its rows, curves and facts."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from cache_zoo import UsageError, list_caches
from evaluation.report.html import render_page
from evaluation.report.html.cache_facts import _linked, cache_facts
from evaluation.report.html.curves import find_curves
from evaluation.report.html.page_rows import page_rows
from evaluation.report.html.script import vega
from tests.page_frames import PUBLISHED, frame, made


def test_the_page_is_a_function_of_its_arguments(page_file: Path) -> None:
    assert render_page(frame(), PUBLISHED) == page_file.read_text(encoding="utf-8")


def test_missing_figures_are_missing_and_no_number_is_made_of_them() -> None:
    (row,) = page_rows(made(score=[None], ranked=[None]))
    assert row["score"] is None
    assert row["ranked"] is False
    assert re.findall(r">(?:nan|nat|inf)\b", render_page(frame()), flags=re.IGNORECASE) == []


def test_without_the_plotting_library_one_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    vega.cache_clear()
    monkeypatch.setitem(sys.modules, "vl_convert", None)  # what an import finds where it is not installed
    with pytest.raises(UsageError, match="pip install vl-convert-python"):
        render_page(frame())


def test_a_curve_takes_all_else_to_be_equal() -> None:
    curves = find_curves(page_rows(made(cache_parameters=["every=4 k=1", "every=1 k=1", "every=2 k=2", "every=2 k=1"])))
    (every, k) = sorted(curves, key=lambda curve: curve.parameter)
    assert (every.parameter, every.runs, every.values) == ("cache.every", [1, 3, 0], [1, 2, 4])
    assert (k.parameter, k.runs, k.values) == ("cache.k", [3, 2], [1, 2])
    for key, values in {"n": [10, 20], "batch_size": [1, 4], "machine": ["a", "b"], "dtype": ["a", "b"]}.items():
        apart = made(cache_parameters=["every=1", "every=2"], **{key: values})
        assert find_curves(page_rows(apart)) == [], key


def test_curves_of_one_cache_say_what_sets_them_apart() -> None:
    four = made(cache_parameters=["a=1", "a=2", "a=1", "a=2"], threshold=[0.9, 0.9, None, None])
    curves = find_curves(page_rows(four))
    assert [(curve.parameter, curve.fixed) for curve in curves] == [
        ("cache.a", "threshold=0.9"),
        ("cache.a", "threshold=null"),
        ("generation.threshold", "a=1"),
        ("generation.threshold", "a=2"),
    ]
    assert curves[2].values == [None, 0.9]


def test_words_and_runs_without_figures_make_no_curve() -> None:
    assert find_curves(page_rows(made(cache_parameters=["mode=live", "mode=first"]))) == []
    assert find_curves(page_rows(made(cache_parameters=["a=1", "a=2"], score=[0.5, None]))) == []


def test_runs_of_other_shots_or_lengths_have_panels_of_their_own() -> None:
    panels = [row["panel"] for row in page_rows(made(n_shot=[0, 4, 4], gen_length=[128, 128, 256]))]
    assert panels == [
        "m · t · n_shot=0 · gen_length=128",
        "m · t · n_shot=4 · gen_length=128",
        "m · t · n_shot=4 · gen_length=256",
    ]
    assert {row["panel"] for row in page_rows(made(n_shot=[4, 4]))} == {"m · t"}


@pytest.mark.parametrize("name", list_caches())
def test_the_facts_of_a_cache_are_those_of_its_class(name: str) -> None:
    facts = cache_facts(name)
    assert facts.registered
    assert facts.text
    assert "https://arxiv.org/abs/" in facts.paper
    assert all(text for _, _, text in facts.parameters)


def test_a_cache_that_is_not_registered_has_rows_all_the_same() -> None:
    text = render_page(made(cache=["Unheard", "un heard"]))
    assert re.findall(r'<article id="([^"]+)"', text) == ["cache-Unheard", "cache-un-heard"]
    assert "Not registered where this page was written" in text


def test_the_fixture_is_in_the_page(page_file: Path) -> None:
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', page_file.read_text(encoding="utf-8")
    )
    assert found is not None
    data = json.loads(found[1])
    assert len(data["rows"]) == len(frame())
    assert page_file.stat().st_size < 2e6


def test_decoding_is_named_by_its_differences() -> None:
    same = {"decoder": ["vanilla"] * 3, "decoder_settings": ["alg=a", "alg=a", "alg=b"]}
    told = [row["decoding"] for row in page_rows(made(**same, threshold=[None, 0.9, 0.9], block_length=[32, 32, 32]))]
    assert told == ["vanilla alg=a", "vanilla threshold=0.9 alg=a", "vanilla threshold=0.9 alg=b"]


def test_batches_seeds_and_versions_of_torch_are_shown_where_they_differ() -> None:
    """Fronts, shapes and filters use these words, so figures against different baselines are not mixed."""
    runs = page_rows(made(decoder=["vanilla"] * 3, batch_size=[1, 1, 4], seed=[1, 1, 1], torch=["2.1", "2.2", "2.2"]))
    assert [row["decoding"] for row in runs] == ["vanilla batch_size=1", "vanilla batch_size=1", "vanilla batch_size=4"]
    assert [row["hardware"] for row in runs] == ["torch 2.1", "torch 2.2", "torch 2.2"]
    # what a run was to have that did not measure anything is not what it had, and one without a configuration has none
    same = {"decoder": ["vanilla", "vanilla", None], "dtype": ["float32", "auto", None]}
    runs = page_rows(made(**same, score=[0.5, None, None], gen_length=[128, 128, None]))
    assert [row["decoding"] for row in runs] == ["vanilla", "vanilla", None]


def test_addresses_and_arxiv_ids_of_a_paper_are_links() -> None:
    linked = _linked("A <b>, arXiv 2401.00001v2; https://arxiv.org/abs/2402.00002, https://example.org/a?b&c.")
    assert re.findall('<a href="(.*?)">', linked) == [
        "https://arxiv.org/abs/2401.00001",
        "https://arxiv.org/abs/2402.00002",
        "https://example.org/a?b&amp;c",
    ]
    assert linked.startswith("A &lt;b&gt;, arXiv ")
