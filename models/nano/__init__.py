"""Small trained models that come with the package, what they learned from, and the program that trained them."""
