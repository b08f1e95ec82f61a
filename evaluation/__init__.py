"""Running one cell, model x cache x generation x dataset, through lm-eval, and measuring it.

`evaluation.cell.evaluate_cell` runs `evaluation.settings.Settings`. Nothing is imported here, so that a mistake on a
command line is reported without waiting for lm-eval.
"""
