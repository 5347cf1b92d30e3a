"""The command line with the small networks among the others: `python -m tests.tiny_cli train --model tiny …`.

Its charts are blank.
"""

import sys

from inception_resnet_keras import networks
from inception_resnet_keras.cli import main

from .blank import use_blank_charts
from .tiny import KNOWN

if __name__ == "__main__":
    networks.NETWORKS.update(KNOWN)
    use_blank_charts()
    sys.exit(main())
