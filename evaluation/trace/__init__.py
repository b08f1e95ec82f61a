"""Show a cache at work: one question of a run decoded again, every forward on one self-contained page.

Nothing is traced while a run is measured; ``cache-zoo trace RUN [BASELINE] sample=3`` answers the question
once more. A program that has a model at hand calls `record` and `write`.
"""

from evaluation.trace.page import render, write
from evaluation.trace.recording import Trace, record

__all__ = ["Trace", "record", "render", "write"]
