"""The command line with the tiny network among the others: `python -m tests.tiny_cli train --model tiny …`."""

import sys

from inception_resnet_keras import spec
from inception_resnet_keras.cli import main

from .tiny import TINY

spec.NETWORKS[TINY.name] = {TINY.variant: TINY}

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
