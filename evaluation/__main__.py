"""The ``cache-zoo`` command, also ``python -m evaluation``: one program, a word for each thing it does."""

from __future__ import annotations

import sys
from importlib import import_module

from cache_zoo.errors import DONE, UNUSABLE, suggest, visible

COMMANDS = {
    "eval": ("evaluation.eval_command", "run one evaluation, or a sweep of them with -m"),
    "generate": ("generation.demo", "answer a prompt and watch the text unmask"),
    "list": ("cache_zoo.__main__", "show the caches with their papers, parameters and properties"),
    "new": ("cache_zoo.__main__", "write the files of a new cache"),
    "table": ("evaluation.report.table", "print one table of the runs in a folder"),
    "leaderboard": ("evaluation.report.leaderboard", "write leaderboard.csv, .md and .html from run folders"),
    "compare": ("evaluation.report.compare", "compare a run with its baseline, question by question"),
    "check": ("evaluation.report.check.command", "find contradictions in run folders"),
    "rescore": ("evaluation.report.rescore", "score saved answers again, without a model"),
    "trace": ("evaluation.trace.__main__", "draw what was computed and reused for one question"),
    "lm-eval": ("evaluation.run.lm_eval_plugin", "run lm-eval's own program with cache-zoo's models"),
}
"""Command to the module whose ``main`` runs it, and its line of the help."""
_NAMED = ("list", "new")
"""Commands that share a module, which finds its command in ``sys.argv``."""


def main() -> int:
    """Hand the command line to the command's module and return its exit status."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
        return DONE
    if name not in COMMANDS:
        print(f"error: unknown command '{visible(name)}': {suggest(name, COMMANDS)}", file=sys.stderr)
        return UNUSABLE
    sys.argv = [f"cache-zoo {name}", *([name] if name in _NAMED else []), *rest]
    return int(import_module(COMMANDS[name][0]).main())


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: cache-zoo COMMAND ...", "", *lines, "", "cache-zoo COMMAND --help explains a command."])


if __name__ == "__main__":
    sys.exit(main())
