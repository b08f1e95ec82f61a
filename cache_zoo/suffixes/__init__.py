"""Suffix rules, one file each, named as on the command line: what of the canvas behind the current block takes part."""
