"""The decoders side by side on an embedded model: ``python -m benchmarks.decoders model=nano-llada``.

Settings are chosen on training questions without a cache, and reported on the test questions with each cache:
``decoders.yaml`` says which are tried. Of the settings of a decoder, those within ``tolerance`` of its best score are
equal, and the one with the fewest forwards is chosen.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
from omegaconf import OmegaConf
from transformers import PreTrainedTokenizerFast

from benchmarks.sweeps import ROOT, run_sweep
from cache_zoo.arguments import read
from evaluation.report.columns import BY_KEY
from evaluation.report.markdown import escaped, table_text
from evaluation.report.table import read_runs
from evaluation.storage.saved_run import SavedRun
from models.nano.data import ITEMS, held_out
from models.nano.gsm import Problem, problem

_COLUMNS = ("score", "nfe", "tokens_per_forward", "compute_ratio", "flops_per_token")
_CORPUS = 2000  # problems whose answers are counted


@dataclass(frozen=True)
class DecoderOptions:
    """The decoders side by side on an embedded model.

    Attributes:
        model: name of the embedded model.
        train: training questions on which settings are chosen.
        size: test questions that are reported; null: all.
        tolerance: points of the score that count as equal when settings are chosen.
        caches: names that `cache=` takes, by comma; settings are chosen without a cache.
        batch_size: prompts decoded together.
        out: folder of the runs.
        only: decoders of ``decoders.yaml``, by comma; null: all.
    """

    model: str = "nano-llada"
    train: int = 100
    size: int | None = None
    tolerance: float = 2.0
    caches: str = "none,dual"
    batch_size: int = 10
    out: Path = Path("results/decoders")
    only: str | None = None


def training_problems(number: int) -> list[Problem]:
    """Problems from the generator that the models were trained with, none of them a test question or an example."""
    random, found = Random("cache-zoo decoders"), dict[str, Problem]()
    while len(found) < number:
        one = problem(random)
        if one.question not in held_out():
            found[one.question] = one
    return list(found.values())


def write_items(folder: Path, number: int, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write the questions of the choice, the examples of the package and the frequencies of the tokens of answers."""
    folder.mkdir(parents=True, exist_ok=True)
    problems = training_problems(_CORPUS)
    rows = (json.dumps({"question": one.question, "answer": one.answer}) + "\n" for one in problems[:number])
    (folder / "test.jsonl").write_text("".join(rows), encoding="utf-8")
    (folder / "train.jsonl").write_bytes((ITEMS / "gsm" / "train.jsonl").read_bytes())
    ids = tokenizer([f" {one.answer}" for one in problems], add_special_tokens=False)["input_ids"]
    counts = Counter(token for answer in ids for token in answer)
    shares = [counts[token] / counts.total() for token in range(len(tokenizer))]
    (folder / "frequencies.json").write_text(json.dumps(shares), encoding="utf-8")


def chosen(folder: Path, names: list[str], tolerance: float) -> SavedRun:
    """The run with the fewest forwards of those whose score is within ``tolerance`` points of the best."""
    frame = read_runs(folder)
    frame = frame[frame["folder"].isin(names)]
    good = frame[100 * frame["score"] >= 100 * frame["score"].max() - tolerance]
    return SavedRun(folder / good.sort_values(["nfe", "score"], ascending=[True, False])["folder"].iloc[0])


def main() -> None:
    """Choose, run and print."""
    options = read(DecoderOptions, "python -m benchmarks.decoders")
    folder = options.out.resolve() / options.model
    tokenizer = PreTrainedTokenizerFast.from_pretrained(ROOT / "models" / "nano" / options.model.removeprefix("nano-"))
    write_items(folder / "items", options.train, tokenizer)
    (dot,) = tokenizer(".", add_special_tokens=False)["input_ids"]
    plan: Any = OmegaConf.to_container(OmegaConf.load(Path(__file__).with_suffix(".yaml")))
    common = [f"model={options.model}", "dataset=nano-gsm", f"batch_size={options.batch_size}", *plan["common"].split()]
    size = [] if options.size is None else [f"dataset.size={options.size}"]
    found: dict[str, tuple[str, list[str]]] = {}
    for name, decoder in plan["decoders"].items():
        if options.only is not None and name not in options.only.split(","):
            continue
        fixed = decoder["set"].replace("{items}", str(folder / "items")).replace("{dot}", str(dot)).split()
        settings: list[str] = []
        if tried := decoder.get("try"):
            axes = [f"{key}={','.join(json.dumps(value) for value in values)}" for key, values in tried.items()]
            runs = run_sweep([*common, f"dataset.path={folder / 'items'}", *fixed, *axes], folder / "train")
            best = chosen(folder / "train", runs, options.tolerance).options
            settings = [f"{key}={json.dumps(best[key])}" for key in tried]
        found[name] = (
            " ".join(settings),
            run_sweep([*common, *size, *fixed, *settings, f"cache={options.caches}"], folder / "test"),
        )
    print(rendered(read_runs(folder / "test"), found))


def rendered(frame: pd.DataFrame, found: dict[str, tuple[str, list[str]]]) -> str:
    """The table in Markdown, from the decoders' chosen settings and run folders."""
    by_folder = frame.set_index("folder")
    columns = [BY_KEY[key] for key in _COLUMNS]
    lines = []
    for name, (settings, runs) in found.items():
        for run in runs:
            row = by_folder.loc[run].to_dict()
            lines.append(
                [
                    name,
                    settings.replace("generation.", ""),
                    row["cache"],
                    *(column.table_text(row) for column in columns),
                ]
            )
    return table_text(
        ["decoder", "settings", "cache", *(escaped(column.table_title) for column in columns)],
        [[escaped(cell) for cell in line] for line in lines],
    )


if __name__ == "__main__":
    main()
