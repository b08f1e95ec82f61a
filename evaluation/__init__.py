"""Evaluation: what is asked (config), one run (run), many (sweep), and what the results say (report, trace).

Nothing is imported here, so that a mistake on a command line is reported without waiting for lm-eval.
"""
