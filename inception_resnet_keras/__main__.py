"""Runs the command `inception-resnet-keras` as `python -m inception_resnet_keras`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
