"""Guides in Markdown, and the site that they and the docstrings make: `python -m inception_resnet_keras.guides`."""
