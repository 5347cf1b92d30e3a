"""The command line with the small networks among the others: `python -m tests.tiny_cli train --model tiny …`."""

import sys

from inception_resnet_keras import networks
from inception_resnet_keras.cli import main

from .tiny import KNOWN

if __name__ == "__main__":
    networks.NETWORKS.update(KNOWN)
    sys.exit(main())
