"""What a training step on a CPU spends its time on: the share of each kind of operation in oneDNN's kernels.

    python -m tests.step_shares --size 75 --batch-size 32
    python -m tests.step_shares --size 224 --batch-size 16 --precision mixed_bfloat16

oneDNN prints each of its calls with the time that it took. The steps are those of Inception-ResNet-v1 with Adam, on the
form of the model that `train` uses. It is not part of the test suite; guides/measurements.md has its figures.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections import defaultdict

STEPS = """
import sys
import numpy as np
from inception_resnet_keras import create_inception_resnet_v1, optimize_for_training

size, batch, precision, steps = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
model = create_inception_resnet_v1(10, input_shape=(size, size, 3), batch_norm_momentum=0.9, dtype=precision)
step = optimize_for_training(model)
step.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
images = np.random.default_rng(0).uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)
for _ in range(steps):
    step.train_on_batch(images, np.arange(batch) % 10)
"""
DIRECTIONS = {
    "forward_training": "forward",
    "forward_inference": "forward",
    "backward_data": "gradients of the maps",
    "backward_weights": "gradients of the kernels",
}


def kinds(line: str) -> tuple[list[str], float] | None:
    """The kinds of operation that a line of oneDNN's log counts for, and its milliseconds; None for another line."""
    fields = line.split(",")
    if not line.startswith("onednn_verbose") or "exec" not in fields:
        return None
    primitive, _, direction, *_ = fields[fields.index("exec") + 2 :]
    names = [primitive.replace("_", " ")]
    if primitive in ("convolution", "inner_product", "matmul", "gemm_api"):
        names = ["convolutions and matrix products"]
        if primitive == "convolution":
            names.append(f"convolutions: {DIRECTIONS.get(direction, direction)}")
            rows, columns = (int(re.search(rf"k{side}(\d+)", line)[1]) for side in "hw")  # type: ignore[index]
            names.append(f"convolutions: {rows}×{columns}")
        else:
            names.append("matrix products")
    return names, float(fields[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=75, help="side of the images in pixels (default: 75)")
    parser.add_argument("--batch-size", type=int, default=32, help="images per step (default: 32)")
    parser.add_argument("--precision", choices=["float32", "mixed_bfloat16"], default="float32")
    parser.add_argument("--steps", type=int, default=5, help="training steps (default: 5)")
    args = parser.parse_args()

    command = [sys.executable, "-c", STEPS, str(args.size), str(args.batch_size), args.precision, str(args.steps)]
    environment = {**os.environ, "ONEDNN_VERBOSE": "1", "KERAS_BACKEND": "tensorflow"}
    times: dict[str, float] = defaultdict(float)
    total = 0.0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if (counted := kinds(line)) is not None:
                names, milliseconds = counted
                total += milliseconds
                for name in names:
                    times[name] += milliseconds
    if process.returncode or not total:
        raise SystemExit(f"the steps ended with status {process.returncode} and {total:g} ms in oneDNN")
    print(f"{total / args.steps:.0f} ms per step in oneDNN's kernels")
    for name, milliseconds in sorted(times.items(), key=lambda item: -item[1]):
        print(f"  {name:44} {milliseconds / total:6.1%}")


if __name__ == "__main__":
    main()
