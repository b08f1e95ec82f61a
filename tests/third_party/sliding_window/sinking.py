"""What a package looks like that was written for something else: it breaks while it is imported."""

raise RuntimeError("this module needs a newer torch")
