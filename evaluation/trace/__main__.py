"""``cache-zoo trace RUN [BASELINE]`` writes the page of one question, decoded again."""

from __future__ import annotations

import sys
from pathlib import Path

from cache_zoo.arguments import Parser
from cache_zoo.errors import refusing
from evaluation.run.logs import configure_logging
from evaluation.storage.files import check_place
from evaluation.trace.page import write
from evaluation.trace.runs import choose, page_of, record_all, require_alike


@refusing
def main() -> int:
    """Write the page and print where it is; 0 done, 2 something given can't be used."""
    arguments = _parser().parse_args()
    try:
        choices = [choose(arguments.run, arguments.sample, arguments.device)]
        if arguments.baseline is not None:
            sample = arguments.sample or str(choices[0].question[1])
            choices.append(choose(arguments.baseline, sample, arguments.device))
        require_alike(choices)
        out = arguments.out or page_of(choices)
        check_place(out)
        traces = record_all(choices)
        write(out, traces)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(out)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="cache-zoo trace",
        description="Decode a question of a run again, forward by forward, and write a page that shows it.",
        epilog="It is answered alone, with the run's settings and seed; the files of the run stay as they are. A run "
        "folder may be anybody's: one with a class, task or include_path of its own is drawn by eval.py trace=ROW.",
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
