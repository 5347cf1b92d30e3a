"""`python -m inception_resnet_keras`, the same as the command `inception-resnet-keras`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
