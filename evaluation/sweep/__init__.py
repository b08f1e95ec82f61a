"""Sweeps: find the cells to run, give them to workers, and report progress and results."""
