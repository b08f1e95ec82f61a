"""Configuration: command line, recipes and settings, checked before anything runs; the identity of a run."""
