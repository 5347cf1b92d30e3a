"""Mutates a file many times and opens it: `python -m tests.weights.fuzz FILE TIMES SEED`.

A child process of the test, so that a crash, a hang or an allocation is seen for what it is. Every try
must end in an InputError or in tensors no larger than the file; anything else ends the process.
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

SECONDS = 5  # a try
GROWTH = 256 * 1024  # kB of memory over what the first tries needed
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


def attempt(path: Path) -> bool:
    """Whether the file was refused; a file that opens may hold no more than its size, four times over."""
    try:
        with open_checkpoint(path) as checkpoint:
            held = sum(checkpoint.read(name).nbytes for name in checkpoint.tensors)
            assert held <= 4 * path.stat().st_size + 1024, f"{held} bytes out of {path.stat().st_size}"
    except InputError:
        return True
    return False


def main(file: str, times: int, seed: int) -> int:
    rng = random.Random(seed)
    source = Path(file)
    refused = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / source.name
        for beside in source.parent.glob(f"{source.stem}.data-*"):
            shutil.copy(beside, folder)
        data = source.read_bytes()
        attempt(source)  # brings in what the format needs, TensorFlow perhaps, before the clock runs
        base = 0
        for number in range(times):
            path.write_bytes(mutated(data, rng))
            signal.alarm(SECONDS)
            refused += attempt(path)
            signal.alarm(0)
            now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            base = now if number < 20 else base
            assert now - base < GROWTH, f"try {number} needed {now - base} kB"
    return refused


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
