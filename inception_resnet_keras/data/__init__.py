"""Pictures: read, scaled, labelled, split."""
