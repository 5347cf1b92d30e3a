"""A trained model for where it is to run: one target a file, and the check that all share."""
