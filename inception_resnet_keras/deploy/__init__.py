"""Export a trained model to other runtimes, compare each export with the model, and serve models over HTTP."""
