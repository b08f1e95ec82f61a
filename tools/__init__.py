"""Tools for those who work on the repository; not installed with it."""
