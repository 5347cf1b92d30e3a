"""Models for use, in any form: Keras models and files, runs, exports, registered names and checkpoints."""
