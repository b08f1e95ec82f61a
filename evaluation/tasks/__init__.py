"""Tasks: load a dataset (`loading`) and score its answers (`scorers`, and one module per dataset).

Nothing is imported here: scorers work without lm-eval and torch.
"""
