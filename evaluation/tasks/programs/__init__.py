"""What can be told from a program's source without running it."""
