"""``cache-zoo trace RUN [BASELINE]`` writes the page of one question, decoded again."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from cache_zoo.arguments import positional, read
from cache_zoo.errors import DONE, INTERRUPTED, refusing
from evaluation.run.logs import configure_logging
from evaluation.storage.files import check_place
from evaluation.trace.draw import page_path, record_all
from evaluation.trace.page import write
from evaluation.trace.questions import require_same_prompt, select_question


@dataclass(frozen=True)
class TraceOptions:
    """Decode a question of a run again, forward by forward, and write a page that shows it.

    The question is decoded alone, with the run's settings and seed; the run's files stay as they are. Run folders
    are untrusted: one with its own class, task or include_path needs eval.py trace=ROW instead.

    Attributes:
        run: folder of a finished run.
        baseline: a second run, shown beside it.
        sample: row of the dataset, TASK:ROW in a group of tasks (default: the first).
        out: the page (default: RUN/trace_ROW.html).
        device: cpu, cuda or cuda:N, where the run's own device is missing.
    """

    run: Path = positional()
    baseline: Path | None = positional(None)
    sample: str | None = None
    out: Path | None = None
    device: str | None = None


@refusing
def main() -> int:
    """Write the page, print its path and return the exit status."""
    options = read(TraceOptions, "cache-zoo trace")
    configure_logging()
    try:
        questions = [select_question(options.run, options.sample, options.device)]
        if options.baseline is not None:
            sample = options.sample or str(questions[0].row[1])
            questions.append(select_question(options.baseline, sample, options.device))
        require_same_prompt(questions)
        out = options.out or page_path(questions)
        check_place(out)
        traces = record_all(questions)
        write(out, traces)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    print(out)
    return DONE
