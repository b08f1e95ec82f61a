"""``python -m evaluation.trace RUN [BASELINE]`` writes the page of one question, decoded again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cache_zoo import UsageError
from evaluation.logs import configure_logging
from evaluation.trace.page import write
from evaluation.trace.recording import Trace
from evaluation.trace.runs import Choice, choose, record_all


def main() -> int:
    """Write the page and print where it is; 0 done, 2 something given can't be used."""
    arguments = _parser().parse_args()
    try:
        choices = [choose(arguments.run, arguments.sample, arguments.device)]
        if arguments.baseline is not None:
            sample = arguments.sample or str(choices[0].question[1])
            choices.append(choose(arguments.baseline, sample, arguments.device))
        out = arguments.out or _default(choices)
        traces = record_all(choices)
        write(out, traces)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    for choice, trace in zip(choices, traces, strict=True):
        _warn(choice, trace)
    print(out)
    return 0


def _warn(choice: Choice, trace: Trace) -> None:
    if trace.same is False:
        print(
            f"warning: this is not the answer that {choice.run.folder.name} saved, from token {trace.departure} on: "
            "rounding in another batch or on another machine",
            file=sys.stderr,
        )


def _default(choices: list[Choice]) -> Path:
    """``trace_3.html`` in the first run's folder; ``trace_3_beside_NAME.html`` for two."""
    first, *others = choices
    task, row = first.question
    parts = ["trace", *([task] if len({one for one, _ in first.run.samples}) > 1 else []), str(row)]
    parts += [f"beside_{other.settings.cache.label}" for other in others]
    return first.run.folder / ("_".join(parts).replace("/", "-") + ".html")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.trace",
        description="Decode a question of a run again, forward by forward, and write a page that shows it.",
        epilog="It is answered alone, with the run's settings and seed; the files of the run stay as they are.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run that is done")
    parser.add_argument("baseline", type=Path, metavar="BASELINE", nargs="?", help="a second run, shown beside it")
    parser.add_argument("--sample", metavar="ROW", help="row of the dataset, TASK:ROW in a group of tasks (the first)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (RUN/trace_ROW.html)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, where the run's own device is not there")
    return parser


if __name__ == "__main__":
    configure_logging()
    sys.exit(main())
