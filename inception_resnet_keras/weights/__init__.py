"""Reading checkpoints of any project, and loading their weights into models by name, strictly."""
