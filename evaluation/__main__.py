"""The ``cache-zoo`` command, also ``python -m evaluation``: one program with a subcommand per task."""

from __future__ import annotations

import sys
from importlib import import_module

from cache_zoo.errors import DONE, UNUSABLE, suggest, visible

COMMANDS = {
    "eval": ("evaluation.eval_command", "run one evaluation, or a sweep of them with -m"),
    "generate": ("generation.demo", "answer a prompt and watch the text unmask"),
    "list": ("evaluation.list_command", "show caches, suffixes, stores and strategies with their parameters"),
    "new": ("evaluation.new_command", "write the files of a new cache or strategy"),
    "table": ("evaluation.report.table", "print one table of the runs in a folder"),
    "leaderboard": ("evaluation.report.leaderboard", "write leaderboard.csv, .md and .html from run folders"),
    "compare": ("evaluation.report.compare", "compare a run with its baseline, question by question"),
    "check": ("evaluation.report.check.command", "find contradictions in run folders"),
    "rescore": ("evaluation.report.rescore", "score saved answers again, without a model"),
    "trace": ("evaluation.trace.__main__", "draw what was computed and reused for one question"),
    "lm-eval": ("evaluation.run.lm_eval_plugin", "run lm-eval's own program with cache-zoo's models"),
}
"""Subcommand to the module (and function, if not ``main``) that runs it, and its line of the help."""


def main() -> int:
    """Run the subcommand and return its exit status."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
        return DONE
    if name not in COMMANDS:
        print(f"error: unknown command '{visible(name)}': {suggest(name, COMMANDS)}", file=sys.stderr)
        return UNUSABLE
    sys.argv = [f"cache-zoo {name}", *rest]
    module, _, function = COMMANDS[name][0].partition(":")
    return int(getattr(import_module(module), function or "main")())


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    end = "`cache-zoo COMMAND --help` explains a command. Options are written key=value."
    return "\n".join(["usage: cache-zoo COMMAND ...", "", *lines, "", end])


if __name__ == "__main__":
    sys.exit(main())
