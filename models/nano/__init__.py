"""The embedded models: checkpoints, training data and the program that trained them."""
