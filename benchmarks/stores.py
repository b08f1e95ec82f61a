"""What a quantised store costs on an embedded model: ``python -m benchmarks.stores model=nano-llada``.

Runs every cache with every store through eval.py and compares each quantised run with that of the same cache in native
format. A finished run is not run again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from cache_zoo.arguments import read
from cache_zoo.stores import STORES
from evaluation.report.compare import Comparison
from evaluation.report.statistics import Estimate
from evaluation.storage.saved_run import SavedRun

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class StoreOptions:
    """What a quantised store costs on an embedded model.

    Attributes:
        model: name of the embedded model.
        caches: names of `cache-zoo list` that keep keys and values.
        size: questions of nano-gsm per run.
        batch_size: prompts decoded together.
        out: folder of the runs.
    """

    model: str = "nano-llada"
    caches: list[str] = field(default_factory=lambda: ["prefix", "dual", "dllm", "d2cache"])
    size: int = 100
    batch_size: int = 10
    out: Path = Path("results/stores")


def run(arguments: StoreOptions) -> list[SavedRun]:
    """The runs of the sweep, one per cache and store."""
    command = ["eval.py", "-m", f"model={arguments.model}", f"cache={','.join(arguments.caches)}"]
    command += [f"store={','.join(STORES)}", "dataset=nano-gsm", f"dataset.size={arguments.size}"]
    command += ["generation.stop_until_eos=true", f"batch_size={arguments.batch_size}"]
    command += [f"output_dir={arguments.out.resolve()}"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return [SavedRun(Path(json.loads(line)["folder"])) for line in done.stdout.splitlines()]


def report(runs: list[SavedRun]) -> pd.DataFrame:
    """One row per run; agreement and the difference of scores are those with the native run of the same cache."""
    native = {one.summary.cache: one for one in runs if one.summary.store == "native"}
    rows = []
    order = [(cache, store) for cache in native for store in STORES]
    for one in sorted(runs, key=lambda one: order.index((one.summary.cache, one.summary.store))):
        compared = Comparison(one, native[one.summary.cache])
        difference = compared.difference
        rows.append(
            {
                "cache": one.summary.cache,
                "store": one.summary.store,
                "score %": 100 * (one.summary.score or 0),
                "95 % of the difference": "" if difference is None else _interval(difference),
                "agreement %": 100 * (compared.agreement or 0),
                "same answers %": 100 * (compared.exact_agreement or 0),
                "NFE": one.efficiency.nfe,
                "cache MB": (one.efficiency.cache_bytes or 0) / 1e6,
            }
        )
    return pd.DataFrame(rows)


def _interval(difference: Estimate) -> str:
    low, high = difference.low, difference.high
    return "" if low is None or high is None else f"{100 * low:+.1f} to {100 * high:+.1f}"


def main() -> int:
    """Run and print the table."""
    print(report(run(read(StoreOptions, "python -m benchmarks.stores"))).round(2).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
