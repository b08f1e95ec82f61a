"""Loss and accuracy along training runs: ``python -m benchmarks.nano_training RUN ... figure=curves.svg``.

A run is a folder of ``python -m models.nano.train RUN keep_every=1000``. Each checkpoint that it kept answers both
embedded tasks through eval.py; measured ones are not measured again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from benchmarks.figures import bars, save
from cache_zoo.arguments import positional, read
from evaluation.report.table import read_runs

ROOT = Path(__file__).resolve().parents[1]
_HOW = "cache=none generation.threshold=0.9 generation.stop_until_eos=true allow_code_execution=true batch_size=8"


def accuracies(run: Path, size: int) -> pd.DataFrame:
    """Step, dataset, score and n of every kept checkpoint of ``run``."""
    rows = []
    for checkpoint in sorted(run.glob("step-*"), key=lambda path: int(path.name[5:])):
        out = checkpoint / f"results-{size}"
        if not out.is_dir():
            command = [sys.executable, "eval.py", "-m", "dataset=nano-gsm,nano-code", f"dataset.size={size}"]
            command += [f"model=nano-{_family(run)}", f"model.path={checkpoint.resolve()}", *_HOW.split()]
            subprocess.run([*command, f"output_dir={out.resolve()}"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        for _, row in read_runs(out).iterrows():
            rows.append({"step": int(checkpoint.name[5:]), **row[["dataset", "score", "n"]]})
    return pd.DataFrame(rows)


def _family(run: Path) -> str:
    return str(json.loads((run / "config.json").read_text())["model_type"]).lower()


@dataclass(frozen=True)
class NanoTrainingOptions:
    """Loss and accuracy along training runs.

    Attributes:
        runs: folders of training runs.
        size: questions of each task per checkpoint.
        figure: file of the figure (.svg or .png).
    """

    runs: list[Path] = positional()
    size: int = 100
    figure: Path | None = None


def main() -> None:
    """Measure, print and draw."""
    arguments = read(NanoTrainingOptions, "python -m benchmarks.nano_training")
    figure, (losses, scores) = plt.subplots(1, 2, figsize=(9.6, 4), layout="constrained")
    for number, run in enumerate(arguments.runs):
        name = f"nano-{_family(run)}"
        log = pd.read_json(run / "log.jsonl", lines=True)
        losses.plot(log["step"], log["loss"], color=f"C{number}", label=name)
        found = accuracies(run, arguments.size)
        print(name, found.to_string(index=False), sep="\n")
        for dataset, rows in found.groupby("dataset"):
            error = bars(rows["score"], rows["n"])
            style = {"color": f"C{number}", "linestyle": "-" if dataset == "nano-gsm" else ":"}
            scores.errorbar(rows["step"], 100 * rows["score"], error, label=f"{name}, {dataset}", capsize=2, **style)
    losses.set(xlabel="step", ylabel="loss, mean of 50 steps", yscale="log")
    scores.set(xlabel="step", ylabel=f"accuracy, % of {arguments.size} (bars: 95 %)", ylim=(0, 102))
    for axis in (losses, scores):
        axis.grid(alpha=0.3)
        axis.legend()
    if arguments.figure is not None:
        save(figure, arguments.figure)


if __name__ == "__main__":
    main()
