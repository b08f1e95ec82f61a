"""The request: command line, recipes and settings, checked before anything runs."""
