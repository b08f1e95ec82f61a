"""What is asked for: the command line, recipes and settings, checked before anything runs."""
