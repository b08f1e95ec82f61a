"""Accuracy against work on an embedded model: ``python -m benchmarks.nano model=nano-llada``.

Runs the sweeps of ``nano.yaml`` through eval.py, then prints one table per panel and draws the figure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from omegaconf import OmegaConf

from benchmarks.figures import bars, save
from benchmarks.sweeps import run_sweep
from cache_zoo.arguments import read
from evaluation.report.table import read_runs, render_markdown
from evaluation.storage.saved_run import SavedRun

_SAME = ("model", "dataset", "generation", "n", "status")  # columns that say the same in every row


@dataclass(frozen=True)
class NanoOptions:
    """Accuracy against work on an embedded model.

    Attributes:
        model: name of the embedded model.
        size: questions per run.
        batch_size: prompts decoded together.
        out: folder of the runs.
        figure: file of the figure (.svg or .png).
    """

    model: str = "nano-llada"
    size: int = 100
    batch_size: int = 8
    out: Path = Path("results/nano")
    figure: Path | None = None


def draw(panels: dict[str, tuple[Any, pd.DataFrame]], model: str, path: Path) -> None:
    """One panel per entry, accuracy with its 95 % interval against work, one line per cache."""
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 4.2), sharey=True, layout="constrained")
    colours: dict[str, Any] = {}
    for axis, (panel, frame) in zip(axes, panels.values(), strict=True):
        for cache, runs in frame.groupby("cache", sort=False):
            runs = runs.sort_values([panel.x, "score"])
            error = bars(runs["score"], runs["n"])
            colour = colours.setdefault(str(cache), f"C{len(colours)}")
            look = {"marker": "o", "capsize": 3, "color": colour, "alpha": 0.85}
            axis.errorbar(runs[panel.x], 100 * runs["score"], error, label=str(cache), **look)
        axis.set_xlabel(panel.label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"{model}: nano-gsm accuracy, % (bars: 95 %)")
    axes[0].legend()
    save(figure, path)


def main() -> None:
    """Run, print and draw."""
    arguments = read(NanoOptions, "python -m benchmarks.nano")
    arguments = replace(arguments, out=arguments.out.resolve())
    panels: dict[str, tuple[Any, pd.DataFrame]] = {}
    plan = OmegaConf.load(Path(__file__).with_suffix(".yaml"))
    folder = arguments.out / arguments.model
    common = [f"model={arguments.model}", "dataset=nano-gsm", f"dataset.size={arguments.size}"]
    common += [f"batch_size={arguments.batch_size}", *plan.common.split()]
    folders = {
        name: [one for sweep in panel.sweeps for one in run_sweep([*common, *sweep.split()], folder)]
        for name, panel in plan.panels.items()
    }
    every = read_runs(folder)
    for name, panel in plan.panels.items():
        frame = every[every["folder"].isin(folders[name])].copy()
        if panel.x not in frame:
            configs = [SavedRun(folder / run).options for run in frame["folder"]]
            frame[panel.x] = [config[panel.x] for config in configs]
        panels[str(name)] = (panel, frame)
        print(f"\n{name}\n\n{render_markdown(frame, without=_SAME)}")
    if arguments.figure is not None:
        draw(panels, arguments.model, arguments.figure)


if __name__ == "__main__":
    main()
