"""Drawing networks: from a table or from a model, as images and as text.

    uv run --extra cpu --extra plot python examples/plotting.py

Writes the overview of Inception-v4, the paper's Figure 16 (block A of Inception-ResNet-v2), every layer of a custom
network, and its overview as Mermaid, which GitHub draws inside Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from new_folder import new_folder

from inception_resnet_keras import create_inception_resnet_v1, plot_architecture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a new folder for the results (default: a temporary one)")
    args = parser.parse_args()
    out = new_folder(args.out, "pictures")

    # A name needs no model: the tables have every shape.
    plot_architecture("inception_v4", out / "inception_v4.svg", level="overview")
    plot_architecture("inception_resnet_v2", out / "figure_16.svg", level="modules", module="a")
    plot_architecture("inception_resnet_v2", out / "figure_16.png", level="modules", module="a")

    # A model, built or loaded from a file, is drawn with its own depths, size, classes and scales.
    model = create_inception_resnet_v1(num_classes=7, depths=(1, 2, 1), input_shape=(139, 139, 3))
    plot_architecture(model, out / "mine.svg", level="layers")
    plot_architecture(model, out / "mine.mmd", level="overview")
    for path in sorted(out.iterdir()):
        print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
