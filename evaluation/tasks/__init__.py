"""Tasks: how a name becomes an lm-eval task, with data from the hub or from files."""

from evaluation.tasks.loading import LoadedTask, load_task

__all__ = ["LoadedTask", "load_task"]
