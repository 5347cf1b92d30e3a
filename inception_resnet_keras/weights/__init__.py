"""Weights into models: strict, by name."""
