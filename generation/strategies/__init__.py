"""Decoding strategies: which positions a forward commits. One file per strategy, `registry` lists them.

A strategy derives from `generation.strategies.strategy.Strategy`. Installed packages add theirs through the entry-point
group ``cache_zoo.strategies``.
"""
