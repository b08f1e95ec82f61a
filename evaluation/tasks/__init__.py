"""Tasks: how a name becomes an lm-eval task (`loading`), and how answers are scored (`scorers`).

Nothing is imported here, so that scorers can be used without lm-eval and torch.
"""
