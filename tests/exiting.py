"""A program given in place of a cache: importing it exits."""

import sys

sys.exit(3)
