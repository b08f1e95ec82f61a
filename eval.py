#!/usr/bin/env python
"""Entry point: evaluate one cell (model x cache x generation x dataset), or a sweep of cells with -m.

``python eval.py --help`` shows the choices and keys; docs/running.md explains them. ``cache-zoo eval`` is the same.
"""

import sys

from evaluation.eval_command import main

if __name__ == "__main__":
    sys.exit(main())
