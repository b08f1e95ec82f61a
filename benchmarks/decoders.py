"""The decoders side by side on an embedded model: ``python -m benchmarks.decoders model=nano-llada``.

Settings are chosen on training questions without a cache, and reported on the test questions with each cache:
``decoders.yaml`` says which are tried. Of the settings of a decoder, those within ``tolerance`` of its best score are
equal, and the one with the fewest forwards is chosen.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from benchmarks.sweeps import run_sweep
from cache_zoo.arguments import read
from evaluation.report.column_type import MISSING
from evaluation.report.columns import BY_KEY, plain_rows
from evaluation.report.markdown import escaped, table_text
from evaluation.report.table import read_runs
from evaluation.storage.saved_run import SavedRun
from models import resolve_checkpoint
from models.nano.data import ITEMS, held_out
from models.nano.gsm import Problem, problem
from models.tokenizer import load_tokenizer

PLAN = Path(__file__).with_suffix(".yaml")
_COLUMNS = [BY_KEY[key] for key in ("score", "nfe", "tokens_per_forward", "compute_ratio", "flops_per_token")]


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


class Bench:
    """The runs of one model, in a folder of its name."""

    def __init__(self, options: DecoderOptions) -> None:
        self.options, self.folder = options, options.out.resolve() / options.model
        plan: Any = OmegaConf.to_container(OmegaConf.load(PLAN))
        self.decoders: dict[str, dict[str, Any]] = plan["decoders"]
        self.common = [f"model={options.model}", "dataset=nano-gsm", f"batch_size={options.batch_size}"]
        self.common += plan["common"].split()
        self.tokenizer = load_tokenizer(resolve_checkpoint(options.model))

    def write_items(self) -> None:
        """Write the questions of the choice, and the package's examples."""
        items = self.folder / "items"
        items.mkdir(parents=True, exist_ok=True)
        problems = training_problems(self.options.train)
        asked = ({"question": one.question, "answer": one.answer} for one in problems)
        (items / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
        (items / "train.jsonl").write_bytes((ITEMS / "gsm" / "train.jsonl").read_bytes())

    def fixed(self, decoder: dict[str, Any]) -> list[str]:
        """The overrides that all settings of a decoder share."""
        (dot,) = self.tokenizer(".", add_special_tokens=False)["input_ids"]
        text: str = decoder["set"]
        return text.replace("{dot}", str(dot)).split()

    def choose(self, decoder: dict[str, Any]) -> list[str]:
        """The best of the settings that are tried, as overrides."""
        tried = decoder.get("try", {})
        if not tried:
            return []
        lists = [f"{key}={','.join(map(json.dumps, values))}" for key, values in tried.items()]
        items, folder = self.folder / "items", self.folder / "train"
        names = run_sweep([*self.common, f"dataset.path={items}", *self.fixed(decoder), *lists], folder)
        runs = read_runs(folder)
        best = SavedRun(folder / fewest_forwards(runs[runs["folder"].isin(names)], self.options.tolerance)).options
        return [f"{key}={json.dumps(best[key])}" for key in tried]

    def report(self, decoder: dict[str, Any], settings: list[str]) -> list[str]:
        """Run folders of the test questions, one per cache."""
        size = [] if self.options.size is None else [f"dataset.size={self.options.size}"]
        own = [*self.fixed(decoder), *settings, f"cache={self.options.caches}"]
        return run_sweep([*self.common, *size, *own], self.folder / "test")

    def table(self) -> str:
        """All decoders, in Markdown."""
        only, found = self.options.only, {}
        for name, decoder in self.decoders.items():
            if only is None or name in only.split(","):
                settings = self.choose(decoder)
                own = [part for part in [*self.fixed(decoder), *settings] if not part.startswith("generation=")]
                found[name] = " ".join(own).replace("generation.", ""), self.report(decoder, settings)
        rows = plain_rows(read_runs(self.folder / "test"))
        caches, lines = self.options.caches.split(","), []
        for name, (settings_text, folders) in found.items():
            reported = [row for row in rows if row["folder"] in folders]
            for row in sorted(reported, key=lambda row: caches.index(row["cache"])):
                figures = (column.table_text(row) or MISSING for column in _COLUMNS)
                lines.append([name, settings_text, row["cache"], *figures])
        header = ["decoder", "settings", "cache", *(column.table_title for column in _COLUMNS)]
        return table_text(map(escaped, header), [list(map(escaped, line)) for line in lines])


def training_problems(number: int) -> list[Problem]:
    """Problems from the generator that the models were trained with, none of them a test question or an example."""
    random, found = Random("cache-zoo decoders"), dict[str, Problem]()
    while len(found) < number:
        one = problem(random)
        if one.question not in held_out():
            found[one.question] = one
    return list(found.values())


def fewest_forwards(runs: pd.DataFrame, tolerance: float) -> str:
    """Folder of the run with the fewest forwards of those whose score is within ``tolerance`` points of the best."""
    good = runs[100 * (runs["score"].max() - runs["score"]) <= tolerance + 1e-9]
    folder: str = good.sort_values(["nfe", "score"], ascending=[True, False])["folder"].iloc[0]
    return folder


def main() -> None:
    """Choose, run and print."""
    bench = Bench(read(DecoderOptions, "python -m benchmarks.decoders"))
    bench.write_items()
    print(bench.table())


if __name__ == "__main__":
    main()
