"""Training: from labelled pictures to a run's folder with a model."""
