"""The command line with the tiny network among the others: `python -m tests.tiny_cli train --model tiny …`."""

import sys

from inception_resnet_keras import spec
from inception_resnet_keras.cli import main

from .tiny import TINY

if __name__ == "__main__":
    spec.NETWORKS[TINY.name] = {TINY.variant: TINY}
    sys.exit(main())
