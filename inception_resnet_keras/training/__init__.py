"""Training runs: from pictures to a folder with a model in it."""
