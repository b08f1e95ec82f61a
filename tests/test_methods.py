"""Runs of several methods (cache, suffix rule, store) from the sweep to tables, comparison, check, page and trace."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from cache_zoo import UsageError
from evaluation.config.command_line import cells
from evaluation.report.check import check_run
from evaluation.report.compare import compare, find_baseline
from evaluation.report.html import render_page
from evaluation.report.leaderboard import render_csv
from evaluation.report.markdown import render_markdown
from evaluation.report.rows import read_rows
from evaluation.report.table import read_runs, render
from evaluation.run.evaluate import evaluate_cell
from evaluation.storage.find_runs import find_runs
from evaluation.storage.saved_run import SavedRun
from evaluation.sweep.baselines import with_baselines
from evaluation.sweep.cell import Cell
from evaluation.sweep.progress import labels
from evaluation.trace import page
from evaluation.trace.page_data import page_data
from evaluation.trace.recording import Trace, record
from models.nano.data import ITEMS
from tests.small_runs import edit_results, edit_samples

COMMON = (
    "model=nano-llada",
    "dataset=nano-gsm",
    "generation.gen_length=32",
    "generation.block_length=8",
    "generation.num_transfer_tokens=2",
)
PLAIN, CACHED, PRUNED, ALL = "none", "dual", "none+window", "dual+window+int8"
METHODS = {
    PLAIN: [],
    CACHED: ["cache=dual"],
    PRUNED: ["suffix=window", "suffix.window=4"],
    ALL: ["cache=dual", "suffix=window", "suffix.window=4", "store=int8"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two questions with each of `METHODS`, with a commit that the checkout of a test need not have."""
    folder = tmp_path_factory.mktemp("methods")
    for split in ("train", "test"):
        lines = (ITEMS / "gsm" / f"{split}.jsonl").read_text().splitlines(keepends=True)
        (folder / f"{split}.jsonl").write_text("".join(lines[:2] if split == "test" else lines))
    for method in METHODS.values():
        (settings,) = cells([*COMMON, *method, f"dataset.path={folder}", f"output_dir={folder / 'results'}"])
        evaluate_cell(settings)
    shutil.rmtree(folder / "results" / ".locks")
    for run in (folder / "results").iterdir():
        edit_results(run, _committed)
    return folder / "results"


def _committed(found: dict[str, Any]) -> None:
    codes = {f"{part}_code": {"origin": "cache-zoo"} for part in ("cache", "suffix", "strategy")}
    found["provenance"] |= {"git": {"commit": "c" * 40, "dirty": False}, **codes}


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """A copy to edit."""
    return Path(shutil.copytree(made, tmp_path / "results"))


def pick(runs: Path, method: str) -> Path:
    (found,) = runs.glob(f"nano-llada__{method}__vanilla__nano-gsm__*")
    return found


def rows_of(runs: Path) -> pd.DataFrame:
    return read_rows(find_runs([runs], name_from=runs))


@pytest.mark.slow
def test_every_row_is_compared_with_the_run_that_does_all_work(made: Path) -> None:
    rows = {row["folder"]: row for row in rows_of(made).to_dict("records")}
    found = {method: rows[pick(made, method).name] for method in METHODS}
    assert {row["group"] for row in found.values()} == {found[PLAIN]["group"]}
    assert all(row["ranked"] for row in found.values())
    assert [(row["cache"], row["suffix"], row["store"]) for row in found.values()] == [
        ("none", "all", "native"),
        ("dual", "all", "native"),
        ("none", "window", "native"),
        ("dual", "window", "int8"),
    ]
    assert found[ALL]["suffix_parameters"] == "window=4"
    assert pd.isna(found[CACHED]["suffix_parameters"])
    assert all(row["agreement"] >= 0 for row in found.values())
    baseline = SavedRun(pick(made, PLAIN))
    everything = [SavedRun(pick(made, method)) for method in METHODS]
    assert all(find_baseline(run, everything) == baseline for run in everything)


def test_work_is_counted_by_parts(made: Path) -> None:
    rows = {row["folder"]: row for row in rows_of(made).to_dict("records")}
    plain, pruned, cached = (rows[pick(made, method).name] for method in (PLAIN, PRUNED, CACHED))
    assert plain["query_ratio"] == plain["kv_ratio"] == plain["compute_ratio"] == 1
    for row in (pruned, cached):
        assert row["query_ratio"] == row["kv_ratio"] == row["compute_ratio"] < 1
    small, large = (SavedRun(pick(made, method)).efficiency.cache_bytes or 0 for method in (ALL, CACHED))
    assert 0 < small < large / 2
    found = json.loads((pick(made, CACHED) / "results.json").read_text())["efficiency"]
    assert found["query_rows"] == found["kv_rows"] == found["rows"]


def test_tables_and_page_have_columns_for_what_differs(made: Path, runs: Path) -> None:
    frame = rows_of(made)
    texts = render_markdown(frame), render_page(frame), render(read_runs(made)), render_csv(frame)
    assert "| cache | parameters | suffix | suffix parameters | store | score %" in texts[0]
    assert "| dual |  | window | window=4 | int8 |" in texts[0]
    for key in ("suffix", "suffix_parameters", "store", "query_ratio"):
        assert f'data-key="{key}"' in texts[1]
    assert 'name="suffix" value="window"' in texts[1]
    assert "dual suffix=window store=int8 window=4" in texts[1]
    assert texts[1].count('<span class="mark">baseline</span>') == 1
    assert {"suffix", "store"} <= set(texts[2].splitlines()[0].split())
    for method in (PRUNED, ALL):
        shutil.rmtree(pick(runs, method))
    frame = rows_of(runs)
    assert "| cache | parameters | score %" in render_markdown(frame)
    assert 'data-key="suffix"' not in render_page(frame)
    assert "suffix" not in render(read_runs(runs)).splitlines()[0]
    assert "suffix,suffix_parameters,store" in render_csv(frame).splitlines()[0]


def test_runs_that_are_older_than_methods_are_rows_beside_them(runs: Path) -> None:
    run = pick(runs, PLAIN)
    config = yaml.safe_load((run / "config.yaml").read_text())
    for key in ("suffix", "store"):
        del config[key]
    for key in ("schedule", "eps", "alpha", "alg_temp", "first_forward", "cfg_scale", "eos"):
        del config["generation"][key]
    (run / "config.yaml").write_text(yaml.safe_dump(config))

    def forget(found: dict[str, Any]) -> None:
        found["config"] = config
        for part, keys in (
            ("summary", ("suffix", "store")),
            ("efficiency", ("query_rows", "kv_rows")),
            ("provenance", ("suffix_code",)),
        ):
            for key in keys:
                del found[part][key]

    edit_results(run, forget)
    edit_samples(
        run, lambda samples: [sample["work"].pop(key) for sample in samples for key in ("query_rows", "kv_rows")]
    )
    rows = {row["folder"]: row for row in rows_of(runs).to_dict("records")}
    old, new = rows[run.name], rows[pick(runs, ALL).name]
    assert (old["suffix"], old["store"], old["ranked"], new["ranked"]) == ("all", "native", True, True)
    assert pd.isna(old["query_ratio"])
    assert old["group"] == new["group"]
    assert compare(SavedRun(pick(runs, ALL)), SavedRun(run)).agreement is not None
    assert check_run(run, {}) == check_run(pick(runs, CACHED), {})


def test_only_a_run_without_any_method_is_a_baseline(made: Path) -> None:
    run = SavedRun(pick(made, CACHED))
    reason = (
        f"must have cache=none suffix=all store=native; {pick(made, PRUNED).name.replace('+', '.')} has suffix=window"
    )
    with pytest.raises(UsageError, match=reason):
        compare(run, SavedRun(pick(made, PRUNED)))
    with pytest.raises(UsageError, match="has cache=dual suffix=window store=int8"):
        compare(run, SavedRun(pick(made, ALL)))


@pytest.mark.parametrize("method", METHODS)
def test_a_run_passes_the_check(made: Path, method: str) -> None:
    allowed = ("questions", "published", "data of", "commit")  # two questions, of a folder, at no real commit
    assert [problem for problem in check_run(pick(made, method)) if not any(word in problem for word in allowed)] == []


def _config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def forge(run: Path) -> None:
        config = yaml.safe_load((run / "config.yaml").read_text())
        change(config)
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        edit_results(run, lambda found: found.update(config=config))

    return forge


def _work(key: str, value: float | None) -> Callable[[Path], None]:
    def forge(run: Path) -> None:
        edit_samples(run, lambda samples: samples[0]["work"].update({key: value}))

    return forge


def _results(part: str, **values: Any) -> Callable[[Path], None]:
    return lambda run: edit_results(run, lambda found: found[part].update(values))


FORGED: list[tuple[str, Callable[[Path], None], str]] = [
    (ALL, _config(lambda config: config.update(store="int9")), "unknown store 'int9'"),
    (ALL, _config(lambda config: config.update(store="native")), "the folder of this configuration is called"),
    (ALL, _config(lambda config: config["suffix"].update(window=-1)), "'window' must be at least 0"),
    (ALL, _config(lambda config: config["suffix"].update(name="os.path")), "unknown suffix 'os.path'"),
    (
        ALL,
        _config(lambda config: config.update(suffix={"_target_": "os.path.Window"})),
        "the suffix os.path.Window is in no",
    ),
    (ALL, _config(lambda config: config["generation"].update(strategy="os:path")), "unknown strategy 'os:path'"),
    (ALL, _config(lambda config: config["generation"].update(eps=2)), "eps must be between 0 and 1"),
    (ALL, _results("summary", suffix="all"), "the summary has suffix all, the configuration window"),
    (ALL, _results("summary", store="native"), "the summary has store native, the configuration int8"),
    (ALL, _results("provenance", suffix_code=None), "not recorded: the origin of the suffix's code"),
    (ALL, _results("provenance", suffix_code={"origin": "unknown"}), "the code of the suffix is in no commit"),
    (
        ALL,
        _results("provenance", suffix_code={"origin": "package", "name": "p"}),
        "the code of window is from package, the registered suffix from cache-zoo",
    ),
    (ALL, _work("query_rows", None), "a figure of the work is missing"),
    (ALL, _work("query_rows", 1e9), "query_rows or kv_rows are not between 0 and rows_full"),
    (ALL, _work("kv_rows", 0), "query_rows or kv_rows are not between 0 and rows_full"),
    (ALL, _results("efficiency", kv_rows=1.0), "kv_rows: results.json has 1"),
    (PLAIN, _work("kv_rows", 5), "the baseline skipped rows or kept a cache"),
    (CACHED, _work("cache_bytes", 0), "rows were skipped, but the cache kept nothing"),
]


@pytest.mark.parametrize(("method", "forge", "problem"), FORGED, ids=[problem for *_, problem in FORGED])
def test_forged_values_are_found(runs: Path, method: str, forge: Callable[[Path], None], problem: str) -> None:
    run = pick(runs, method)
    forge(run)
    assert any(problem in found for found in check_run(run)), check_run(run)


def test_a_sweep_has_one_baseline_for_all_methods() -> None:
    sweep = ["cache=none,dual", "suffix=all,window", "store=native,int8", *COMMON]
    found = cells(sweep, sweep=True)
    assert len(found) == 8
    assert with_baselines(found) == found
    assert [cell.is_baseline for cell in found] == [True] + [False] * 7
    assert [cell.obstacle is not None for cell in found] == [False, True, False, True] + [False] * 4
    names = labels([Cell(cell) for cell in found])
    assert names[0] == "nano-llada none vanilla nano-gsm"
    assert names[-1] == "nano-llada dual window int8 vanilla nano-gsm"
    tuned = cells(["suffix=window", "suffix.window=4,8", *COMMON], sweep=True)
    assert [name.rpartition(" ")[2] for name in labels([Cell(cell) for cell in tuned])] == ["window=4", "window=8"]
    strategies = cells(["generation=wino,klass", "model=nano-llada", "dataset=nano-gsm"], sweep=True)
    assert not any("=" in name for name in labels([Cell(cell) for cell in strategies]))
    assert with_baselines(tuned) == tuned


@pytest.fixture(scope="module")
def traces() -> list[Trace]:
    strategy = ["generation=sliding", "generation.gen_length=16", "generation.block_length=8"]
    made = []
    for method in (METHODS[PLAIN], METHODS[ALL]):
        (settings,) = cells([*COMMON, *strategy, *method])
        made.append(record(settings, 0))
    return made


def test_a_trace_shows_the_method_and_where_it_decodes(traces: list[Trace]) -> None:
    text = page.render(traces)
    assert "<dd>suffix=window suffix.window=4 store=int8</dd>" in text
    assert "sliding gen_length=16 block_length=8 num_transfer_tokens=2 max_block_length=null" in text
    assert "the suffix rule drops" in text
    assert "the suffix rule drops" not in page.render(traces[:1])
    regions = [step["region"] for step in page_data(traces[1])["steps"]]
    assert regions[0] == [0, 8]
    assert all(first <= last for first, last in itertools.pairwise(regions))
    for step, region in zip(traces[1].steps, regions, strict=True):
        assert all(region[0] <= place < region[1] for place in step.committed[0].nonzero().flatten().tolist())
