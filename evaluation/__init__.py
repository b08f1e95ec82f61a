"""Evaluation: configuration (config), datasets and scores (tasks), one run (run), sweeps, reports, traces.

Nothing is imported here, so that a mistake on a command line is reported without waiting for lm-eval.
"""
