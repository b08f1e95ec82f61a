"""The table of one folder of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cache_zoo import UsageError
from evaluation.config.differences import differing
from evaluation.report.table import read_runs, render, render_markdown
from evaluation.run.folder import RunFolder


def test_the_table_says_not_available_for_what_is_not(tmp_path: Path) -> None:
    done = {"model": "m", "cache": "none", "generation": "g", "dataset": "d", "n": 4, "score": 0.25}
    done |= {"items_total": 1319, "score_stderr": 0.1, "tokens_per_second": 3.0, "nfe": 8.0, "compute_ratio": 1.0}
    samples = [{"task": "d", "doc_id": number, "metrics": {"acc,none": float(number == 0)}} for number in range(4)]
    for name, score in (("none", 0.25), ("other", None)):
        run = RunFolder(tmp_path / f"m__{name}__g__d__0", config_of({"name": name}))
        run.start()
        summary = {**done, "cache": name, "metric": "acc,none", "score": score}
        run.finish({"summary": summary, "efficiency": {}, "provenance": {}}, samples)
    failed = RunFolder(tmp_path / "m__broken__g__d__0", {})
    failed.start()
    failed.fail(RuntimeError("no"))
    text = render(read_runs(tmp_path))
    rows = {line.split()[3]: line.split() for line in text.splitlines()}
    assert rows["none"][4] == "4/1319"
    assert rows["none"][5:8] == ["25.0", "[4.6,", "69.9]"]
    assert rows["other"][5] == "N/A"
    assert set(rows["broken"][4:10]) == {"N/A"}
    assert rows["broken"][-1] == "failed"
    assert isinstance(read_runs(tmp_path), pd.DataFrame)
    with pytest.raises(UsageError, match="empty is not a folder"):
        read_runs(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="there are no runs"):
        read_runs(tmp_path / "empty")


def config_of(cache: dict[str, Any], **generation: Any) -> dict[str, Any]:
    named = {"model": {"name": "m"}, "dataset": {"name": "d"}}
    return {**named, "cache": cache, "generation": {"strategy": "g", **generation}}


def finished_run(
    root: Path, cache: dict[str, Any], threshold: float | None, ids: list[list[int]], **changes: Any
) -> None:
    """The folder of a run of a model ``m`` that answered ``ids``."""
    prompts, seconds = changes.get("prompts", "same"), changes.get("seconds", [8.0, 6.0])
    config = config_of(cache, threshold=threshold)
    run = RunFolder(root / f"m__{cache['name']}__g__d__{len(list(root.glob('*')))}", config)
    run.start()
    summary = {"n": len(ids), "score": 0.5, "tokens_per_second": 1.0, "nfe": 4.0, "compute_ratio": 1.0}
    results = {
        "summary": summary,
        "efficiency": {"processes": 1},
        "provenance": {
            "machine": {"processor": changes.get("machine", "here")},
            "dataset_sha256": {"t": "d"},
        },
    }
    samples = [
        {"task": "t", "doc_id": n, "prompt_sha256": prompts, "ids": one, "tokens_out": len(one)}
        | {"batch": n, "seconds": seconds[n]}
        for n, one in enumerate(ids)
    ]
    run.finish(results, samples)


def test_runs_are_compared_with_the_baseline_of_their_setting(tmp_path: Path) -> None:
    none, other = {"name": "none"}, {"name": "other", "k": 3}
    finished_run(tmp_path, none, None, [[1, 2, 3, 4], [5, 6]])
    finished_run(tmp_path, other, None, [[1, 2, 9, 4], [5]], seconds=[2.0, 1.5])
    finished_run(tmp_path, {"name": "other", "k": 4}, 0.9, [[1, 2, 3, 4], [5, 6]])
    finished_run(tmp_path, {"name": "elsewhere"}, None, [[1, 2, 3, 4], [5, 6]], machine="there")
    finished_run(tmp_path, {"name": "unlike"}, None, [[1, 2, 3, 4], [5, 6]], prompts="others")
    finished_run(tmp_path, {"name": "fewer"}, None, [[1, 2, 3, 4]])
    frame = read_runs(tmp_path)
    rows = {(row["cache"], row["settings"]): row for _, row in frame.iterrows()}
    assert (rows["none", ""]["speedup"], rows["none", ""]["agreement"]) == (1.0, 1.0)
    same = rows["other", "cache.k=3 generation.threshold=null"]
    assert (same["speedup"], same["agreement"]) == (4.0, (3 / 4 + 1 / 2) / 2)
    no_baseline = rows["other", "cache.k=4 generation.threshold=0.9"]
    assert pd.isna(no_baseline["speedup"])
    assert pd.isna(no_baseline["agreement"])
    assert pd.isna(rows["elsewhere", ""]["speedup"])
    assert rows["elsewhere", ""]["agreement"] == 1.0
    assert pd.isna(rows["unlike", ""]["agreement"])
    assert pd.isna(rows["fewer", ""]["agreement"])
    assert pd.isna(rows["fewer", ""]["speedup"])
    markdown = render_markdown(frame).splitlines()
    assert len(markdown) == 2 + 6
    assert "| 4.00 |" in next(line for line in markdown if "cache.k=3" in line)


def test_what_differs_is_found_by_value_and_a_missing_key_is_null() -> None:
    settings = [{"a": 1, "b": None, "c": "x"}, {"a": 1, "c": "y"}, {"a": 1, "c": "x", "d": False}]
    assert differing(settings) == ["c", "d"]
    assert differing(settings[:1]) == []
