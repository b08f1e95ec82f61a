"""What can be said of generated programs without running them."""
