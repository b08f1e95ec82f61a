"""Benchmarks: the only place speed claims come from."""
