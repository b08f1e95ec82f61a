"""Which layers of the sandbox the machine lacks that the tests run on; tests that need them are skipped and say so."""

from __future__ import annotations

import re
import sys

from cache_zoo import UsageError
from evaluation.sandbox import run_program


def _missing() -> list[str]:
    if sys.platform == "win32":
        return []
    try:
        run_program("")
    except UsageError as error:
        found = re.search(r"code_execution_without=\[(.*)\]", str(error))
        if found is None:
            raise
        return found.group(1).split(",")
    return []


MISSING = _missing()
REASON = f"this machine lacks layers of the sandbox: {', '.join(MISSING)}"
