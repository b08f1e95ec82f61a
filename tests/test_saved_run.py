"""Reading run folders: any file is a typed record or one error that names file and field."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from cache_zoo import UsageError
from evaluation.report.compare import compare, find_baseline
from evaluation.report.rows import read_rows
from evaluation.storage.find_runs import find_runs
from evaluation.storage.saved_run import SavedRun
from evaluation.storage.schema import Results, Sample, SavedConfig, Status
from evaluation.storage.validation import parse
from tests.small_runs import QUESTIONS, edit_samples, pick

CONFIG: dict[str, Any] = {
    "model": {"name": "m"},
    "cache": {"name": "none"},
    "generation": {"strategy": "vanilla"},
    "dataset": {"name": "d"},
}
ODD: list[Any] = [
    None,
    True,
    "text",
    "",
    -1,
    1.5,
    10**29,
    1e308,
    [],
    [[1]],
    {},
    {"a": {"b": None}},
    "\x1b[31mred\x1b[0m",
    "two\nlines",
    "<script>alert(1)</script>",
    '=HYPERLINK("http://a")',
    "x" * 2000,
]


def everything(run: SavedRun) -> None:
    """Read all properties of a run."""
    if not run.done:
        return
    assert run.config.model is not None
    for one in (run.options, run.setting, run.clock, run.scores, run.changed_machine, run.is_baseline):
        assert one is None or one is not ...
    compare(run, run)
    find_baseline(run, [run])


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All places in ``value`` that could be replaced."""
    for key in value if isinstance(value, dict) else range(min(len(value), 1)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from paths(value[key], (*path, key))


def put(value: Any, path: tuple[Any, ...], odd: Any) -> None:
    for key in path[:-1]:
        value = value[key]
    if odd is ...:
        del value[path[-1]]
    else:
        value[path[-1]] = odd


def content(run: Path, name: str) -> Any:
    text = (run / name).read_text()
    return (
        yaml.safe_load(text)
        if name == "config.yaml"
        else json.loads(text.splitlines()[0] if "samples" in name else text)
    )


def write(run: Path, name: str, value: Any) -> None:
    """JSON is YAML, except for some characters."""
    lines = (run / name).read_text().splitlines()[1:] if "samples" in name else []
    (run / name).write_text("\n".join([json.dumps(value), *lines]) + "\n")


@pytest.mark.sampled(12)
@pytest.mark.parametrize("turn", range(3))
@pytest.mark.parametrize("name", ["status.json", "config.yaml", "results.json", "samples.jsonl"])
def test_any_value_in_any_field_is_a_row(small_runs: Path, tmp_path: Path, name: str, turn: int) -> None:
    """Each field is removed, and replaced by two of the odd values, in turns."""
    original = pick(small_runs, "none")
    run = Path(shutil.copytree(original, tmp_path / "runs" / original.name))
    places = [path for path in paths(content(original, name)) if "configs" not in path[:1]]
    assert len(places) > (0 if name == "status.json" else 20)
    for number, path in enumerate(places):
        odd = (..., ODD[number % len(ODD)], ODD[(number * 5 + 3) % len(ODD)])[(number + turn) % 3]
        changed = content(original, name)
        put(changed, path, odd)
        write(run, name, changed)
        frame = read_rows({"runs/" + run.name: SavedRun(run)})
        (row,) = frame.to_dict("records")
        assert str(row["note"]).isprintable(), (path, odd)
        with suppress(UsageError):
            everything(SavedRun(run))
    shutil.copy(original / name, run)
    everything(SavedRun(run))


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (Status, {"status": "finished"}, "status must be 'pending', 'running', 'partial', 'done', 'failed', 'oom' or"),
        (Status, {"status": "done", "date": "\x1b[2J"}, r"date must be printable text in one line, not '\\x1b\[2J'"),
        (Status, {}, "file has no 'status'"),
        (Results, {"summary": {"n": 10**25}}, "summary.n must be less than or equal to"),
        (Results, {"summary": {"n": "5"}}, "summary.n must be a whole number, not '5'"),
        (Results, {"summary": {"n": True}}, "summary.n must be a whole number, not True"),
        (Results, {"summary": {"n": -5}}, "summary.n must be greater than or equal to 0, not -5"),
        (Results, {"summary": {"n": 5, "score": "1.0"}}, "summary.score must be a number, not '1.0'"),
        (Results, {"summary": None}, "summary must be an object, not None"),
        (
            Results,
            {"summary": {"n": 5}, "efficiency": {"latency_seconds": {"p90": -1}}},
            "efficiency.latency_seconds.p90",
        ),
        (
            SavedConfig,
            {**CONFIG, "generation": {"strategy": "g", "gen_length": 10**29}},
            "generation.gen_length must be less",
        ),
        (SavedConfig, {**CONFIG, "model": {"name": ["a"]}}, r"model.name must be text, not a list"),
        (SavedConfig, {**CONFIG, "seed": 10**25}, "seed must be less than"),
        (SavedConfig, {**CONFIG, "dataset": {}}, r"file has no 'dataset.name'"),
        (Sample, {"task": "t"}, "file has no 'doc_id'"),
        (Sample, {"task": "t", "doc_id": 0, "ids": [1, "2"]}, r"ids.1 must be a whole number, not '2'"),
        (Sample, {"task": "t", "doc_id": 0, "ids": [2**40]}, r"ids.0 must be less than"),
        (Sample, {"task": "t", "doc_id": 0, "seconds": 1e300}, r"seconds must be less than"),
        (Sample, {"task": "t", "doc_id": 0, "metrics": [1]}, r"metrics must be an object, not a list"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_given(kind: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse(kind, change, "file")
    assert str(caught.value).startswith("file")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_numbers_of_thousands_of_digits_are_refused(results: Path) -> None:
    run = pick(results, "none")
    text = (run / "results.json").read_text()
    (run / "results.json").write_text(text.replace('"items_total": 6', f'"items_total": {"9" * 4000}'))
    with pytest.raises(UsageError, match=r"results\.json is not valid JSON: a number has 4000 digits"):
        assert SavedRun(run).summary


def test_an_answer_that_is_there_twice_is_refused(results: Path) -> None:
    run = pick(results, "none")
    edit_samples(run, lambda samples: samples.append(samples[2]))
    with pytest.raises(UsageError, match=r"samples\.jsonl, line 7: nano-gsm, row 2 appears twice"):
        assert SavedRun(run).answers


def test_several_answers_to_a_question_are_one_question(results: Path) -> None:
    metric = "exact_match,strict-match"
    runs = [pick(results, cache) for cache in ("dual", "none")]
    for run in runs:
        before = SavedRun(run).scores
        edit_samples(run, lambda samples: samples.extend([{**one, "repeat": 1, "batch": None} for one in samples]))
        assert len(SavedRun(run).answers) == 2 * QUESTIONS
        assert SavedRun(run).scores == before
    found = compare(*map(SavedRun, runs))
    assert found.difference is not None
    assert found.agreement is not None
    edit_samples(runs[0], lambda samples: samples[-1]["metrics"].update({metric: 0.5}))
    assert SavedRun(runs[0]).scores is None  # the score is not the mean of them any more
    edit_samples(runs[0], lambda samples: samples.pop())
    with pytest.raises(UsageError, match="only one has nano-gsm, row 5, answer 2"):
        compare(*map(SavedRun, runs))


def test_what_a_comparison_needs_is_given_back(small_runs: Path) -> None:
    run = SavedRun(pick(small_runs, "none"))
    first = run.answers
    assert run.answers is first
    run.free_answers()
    assert run.answers is not first
    assert run.answers == first


# --- Finding them. ----------------------------------------------------------------------------------------------------


def test_a_run_that_lost_a_file_is_found(results: Path) -> None:
    whole = len(find_runs([results], results))
    (pick(results, "dual") / "status.json").unlink()
    only = results / "nano-llada__dual__vanilla__nano-gsm__00000000"
    only.mkdir()
    (only / "status.json").write_text('{"status": "done"}')
    renamed = pick(results, "d2cache").rename(results / "moved")
    folder = results / "a folder in place of a file"
    (folder / "results.json").mkdir(parents=True)
    frame = read_rows(find_runs([results], results))
    assert len(frame) == whole + 2
    rows = {row["folder"]: row for row in frame.to_dict("records")}
    assert rows[only.name]["note"] == "config.yaml can't be read: No such file or directory"
    assert rows[only.name]["status"] == "done"
    assert rows[folder.name]["note"].startswith("status.json can't be read")
    assert (rows[renamed.name]["cache"], rows[renamed.name]["ranked"]) == ("d2cache", True)
    notes = [row["note"] for row in rows.values() if row["note"] == row["note"] and row["note"]]
    assert any(note.startswith("status.json can't be read") for note in notes)


def test_links_are_not_followed(results: Path, tmp_path: Path) -> None:
    whole = len(find_runs([results], results))
    outside = shutil.copytree(pick(results, "dual"), tmp_path / "outside" / "run")
    (results / "loop").symlink_to(results, target_is_directory=True)
    (results / "out").symlink_to(outside, target_is_directory=True)
    assert len(find_runs([results], results)) == whole
    linked = results / "linked"
    linked.mkdir()
    for file in outside.iterdir():
        (linked / file.name).symlink_to(file)
    frame = read_rows(find_runs([results], results))
    (row,) = frame[frame["folder"] == "linked"].to_dict("records")
    assert row["note"] == "status.json can't be read: it is a link"
    assert len(find_runs([Path(shutil.move(outside, tmp_path / "moved"))], results)) == 1
    given = tmp_path / "given"
    given.symlink_to(results, target_is_directory=True)
    assert len(find_runs([given], results)) == whole + 1  # what the user names may be a link


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: os.mkfifo(file),
        lambda file: file.symlink_to("/dev/zero"),
        lambda file: file.mkdir(),
        lambda file: file.write_bytes(b"\x00" * 100),
        lambda file: file.write_text("[" * 100_000),
        lambda file: file.write_text('{"a":' * 100_000),
        lambda file: file.write_text("a: &a [x]\nb: *a\n"),
        lambda file: file.write_text("!!python/object/apply:os.system ['touch hacked']"),
        lambda file: file.write_text("[]"),
        lambda file: file.write_text('"text"'),
        lambda file: file.write_text(""),
        lambda file: file.write_text('{"summary": NaN}'),
        lambda file: file.write_bytes(b"\xff\xfe{}"),
    ],
)
@pytest.mark.parametrize("name", ["status.json", "config.yaml", "results.json", "samples.jsonl"])
def test_a_file_that_is_none_is_a_row(results: Path, name: str, damage: Callable[[Path], object]) -> None:
    run = pick(results, "dual")
    (run / name).unlink()
    damage(run / name)
    frame = read_rows({"dual": SavedRun(run), "none": SavedRun(pick(results, "none"))})
    rows = {row["folder"]: row for row in frame.to_dict("records")}
    assert rows["none"]["ranked"]
    assert not rows["dual"]["ranked"]
    assert rows["dual"]["note"].startswith(name)


def test_a_walk_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    (deep / "status.json").write_text("{}")
    with pytest.raises(UsageError, match="there are no runs"):
        find_runs([tmp_path], tmp_path)
    monkeypatch.setattr("evaluation.storage.find_runs.MAX_ENTRIES", 30)
    for number in range(40):
        (tmp_path / str(number)).touch()
    with pytest.raises(UsageError, match="holds more than 30 files; give a part of it"):
        find_runs([tmp_path], tmp_path)
