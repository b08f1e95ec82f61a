"""A program that somebody gives in place of a cache."""

import sys

sys.exit(3)
