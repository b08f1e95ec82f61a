"""The files of a run: written atomically, read back within bounds."""
