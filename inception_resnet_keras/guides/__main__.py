"""Builds the documentation's site, with MkDocs and mkdocstrings, from a clone.

    uv run --extra cpu --extra docs python -m inception_resnet_keras.guides

It lies in build/docs: open build/docs/index.html, or, to search it, `python -m http.server -d build/docs`. A warning of
MkDocs, such as of a dead link, is an error.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..common.errors import InputError
from .site import build


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/docs"), help="(default: %(default)s)")
    try:
        print(f"{build(parser.parse_args().out)}/index.html")
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
