"""Mutates a file many times and opens it: `python -m tests.fuzz checkpoint|model FILE TIMES SEED`.

A child process of the test, so that a crash, a hang or an allocation is seen for what it is. Every try of a checkpoint
must end in an InputError or in tensors no larger than the file; every try of a model, in whatever format it was
exported, in an InputError or in outputs for one picture. Anything else ends the process.
"""

from __future__ import annotations

import random
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.weights.readers import open_checkpoint

SECONDS = {"checkpoint": 5, "model": 20}  # a try
GROWTH = {"checkpoint": 256 * 1024, "model": 2 * 1024**2}  # kB of memory over what the first tries needed
TOKENS = (0, 1, 0x7F, 0x80, 0xFF, ord("c"), ord("R"), ord("Q"), ord("o"), ord("i"), ord("b"), ord("r"), ord("."))


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled or put in, most of them where headers are."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        reach = max(1, min(len(out), rng.choice((64, 512, len(out)))))
        at = len(out) - 1 - rng.randrange(reach) if rng.random() < 0.3 else rng.randrange(reach)
        match rng.randrange(7):
            case 0 | 1 | 2:
                out[at] = rng.choice(TOKENS) if rng.random() < 0.5 else rng.randrange(256)
            case 3:
                out[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4)))
            case 4:
                del out[at : at + rng.randrange(1, 16)]
            case 5:
                out[at:at] = bytes(out[at : at + rng.randrange(1, 16)])
            case 6:  # a sector of a disk that was never written
                at -= at % rng.choice((1, 64))
                out[at : at + 64] = bytes(len(out[at : at + 64]))
        if not out:
            return b""
    return bytes(out)


def attempt_model(path: Path) -> bool:
    """Whether the model was refused, when it was opened or when it was run on a picture."""
    import numpy as np

    from inception_resnet_keras.models.open import open_model

    try:
        opened = open_model(path)
        opened.run(np.zeros((1, *opened.view.size, 3), np.float32))
    except InputError:
        return True
    return False


def attempt_checkpoint(path: Path) -> bool:
    """Whether the file was refused; a file that opens may hold no more than its size, four times over."""
    try:
        with open_checkpoint(path) as checkpoint:
            held = sum(checkpoint.read(name).nbytes for name in checkpoint.tensors)
            assert held <= 4 * path.stat().st_size + 1024, f"{held} bytes out of {path.stat().st_size}"
    except InputError:
        return True
    return False


def main(kind: str, file: str, times: int, seed: int) -> int:
    rng = random.Random(seed)
    source = Path(file)
    attempt = attempt_checkpoint if kind == "checkpoint" else attempt_model
    refused = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "files"
        if source.name == "saved_model.pb":  # the file of a folder, which is what is opened
            opened = shutil.copytree(source.parent, folder)
        else:
            folder.mkdir()
            opened = folder / source.name
            for beside in (*source.parent.glob(f"{source.stem}.data-*"), *source.parent.glob(f"{source.stem}.bin")):
                shutil.copy(beside, folder)
        path = folder / source.name
        data = source.read_bytes()
        path.write_bytes(data)
        attempt(opened)  # brings in what the format needs, TensorFlow perhaps, before the clock runs
        base = 0
        for number in range(times):
            path.write_bytes(mutated(data, rng))
            signal.alarm(SECONDS[kind])
            refused += attempt(opened)
            signal.alarm(0)
            now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            base = now if number < 20 else base
            assert now - base < GROWTH[kind], f"try {number} needed {now - base} kB"
    return refused


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
