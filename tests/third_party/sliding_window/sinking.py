"""A module that fails to import."""

raise RuntimeError("this module needs a newer torch")
