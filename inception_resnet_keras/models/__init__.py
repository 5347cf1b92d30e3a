"""TrainingResult models at work."""
