"""``cache-zoo check``."""

import sys

from evaluation.report.check.command import main

if __name__ == "__main__":
    sys.exit(main())
