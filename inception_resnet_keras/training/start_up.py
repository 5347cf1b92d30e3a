"""Benchmark of the start of `train`: time and memory from the start of the process to the first batch.

    python -m inception_resnet_keras.training.start_up

Measured are a folder of 100,000 pictures and a CSV file that lists a million. The pictures are JPEGs of 48×40 in a
temporary folder, hard links to a few dozen files: their content is in the system's cache, so that the disk's speed is
not measured. They are not searched for copies. Also measured are a folder of 1,000 JPEGs of 500×375, boxes of two
photographs, including the search for copies, and the search among 100,000 random hashes alone.
Each source is opened by a separate process, which ends where its first step would begin.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn
from unittest.mock import patch

import numpy as np
from PIL import Image

from ..data.benchmark import write_pictures as write_photographs

DISTINCT = 64
PER_CLASS = 1000


def write_pictures(folder: Path, count: int) -> list[str]:
    """Write `count` pictures into a folder, a thousand per class; returns their names relative to the folder."""
    random, names = np.random.default_rng(0), []
    contents = folder.with_name(f"{folder.name} contents")
    contents.mkdir()
    for number in range(DISTINCT):
        Image.fromarray(random.integers(0, 256, (40, 48, 3), np.uint8)).save(contents / f"{number}.jpg")
    for first in range(0, count, PER_CLASS):
        label = f"class {first // PER_CLASS:04d}"
        (folder / label).mkdir(parents=True)
        for number in range(first, min(first + PER_CLASS, count)):
            name = f"{label}/picture {number:07d}.jpg"
            content = contents / f"{number % DISTINCT}.jpg"
            try:
                os.link(content, folder / name)
            except OSError:  # the file system limits the number of links to a file: continue with a copy
                copy = content.read_bytes()
                content.unlink()
                content.write_bytes(copy)
                os.link(content, folder / name)
            names.append(name)
    return names


def measure(source: Path, out: Path, copies: str = "skip") -> dict[str, float]:
    """Seconds until the pictures are open and until the first batch, and the peak memory in MB.

    Args:
        copies: The value of the setting `copies`.
    """
    command = [sys.executable, "-m", __spec__.name, "--open", str(source), "--run", str(out), "--copies", copies]
    begun = time.monotonic()
    with subprocess.Popen([*command, "--begun", str(begun)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        times = [json.loads(line) for line in process.stdout]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the process ended with {process.returncode}")
    found = {name: seconds for line in times for name, seconds in line.items()}
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, else KiB
    return found | {"MB": usage.ru_maxrss / unit, "processor seconds": usage.ru_utime + usage.ru_stime}


def measure_search(count: int) -> dict[str, float]:
    """Seconds and processor seconds of the search for copies among `count` pictures without copies."""
    from ..data.copies import Fingerprints, find_copies

    random, every = np.random.default_rng(0), np.ones(count, bool)
    hashes = random.integers(0, 2**64, count, dtype=np.uint64)
    thumbnails = random.integers(0, 256, (count, 256), dtype=np.uint8)
    prints = Fingerprints([str(number) for number in range(count)], hashes, every, thumbnails, ~every)
    begun, used = time.perf_counter(), time.process_time()
    find_copies(prints)
    return {"seconds": time.perf_counter() - begun, "processor seconds": time.process_time() - used}


def open_and_stop(source: str, out: Path, begun: float, copies: str) -> None:
    """Run `train` up to its first step, print the times, and end the process."""
    from rich.console import Console

    from . import preparation
    from .config import TrainConfig
    from .step import Stepper
    from .train import train_config

    def tell(what: str) -> None:
        print(json.dumps({what: time.monotonic() - begun}), flush=True)

    def open_pictures(*arguments: Any, opened: Callable[..., Any] = preparation.open_pictures) -> Any:
        pictures = opened(*arguments)
        tell("pictures open")
        if pictures.copies:
            print(json.dumps({"including the search for copies": pictures.copies.seconds}), flush=True)
        return pictures

    def first_step(*_: Any, **__: Any) -> NoReturn:
        tell("first batch")
        os._exit(0)

    config = TrainConfig.from_settings(
        {"data": source, "model": "inception_resnet_v1", "batch_size": 32, "copies": copies}
    )
    with patch.object(preparation, "open_pictures", open_pictures), patch.object(Stepper, "step", first_step):
        train_config(config, out, console=Console(quiet=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000, help="pictures in the folder (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the CSV file (default: %(default)s)")
    parser.add_argument("--photographs", type=int, default=1000, help="JPEGs of 500×375 (default: %(default)s)")
    parser.add_argument("--hashes", type=int, default=100_000, help="hashes to compare (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="number of rounds (default: %(default)s)")
    for hidden in ("--open", "--run", "--begun", "--copies"):  # options of the measured processes
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.open:
        open_and_stop(args.open, Path(args.run), float(args.begun), args.copies)
        return
    with TemporaryDirectory() as temporary:
        # Write all sources first, so that they are in the system's cache when they are measured.
        sources: list[Path] = []
        if args.photographs:
            sources.append(Path(temporary, "photographs"))
            write_photographs(sources[-1], args.photographs)
        if args.pictures:
            sources.append(Path(temporary, "pictures"))
            write_pictures(sources[-1], args.pictures)
        if args.rows:
            sources.append(Path(temporary, "rows.csv"))
            names = write_pictures(sources[-1].with_suffix(""), args.rows)
            rows = (f"rows/{name},{name.partition('/')[0]}\n" for name in names)
            sources[-1].write_text("path,label\n" + "".join(rows), encoding="utf-8")
        # Alternate between the sources, so that other work on the machine affects all of them.
        for number in range(args.rounds):
            for source in sources:
                copies = "allow" if source.stem == "photographs" else "skip"
                found = measure(source, Path(temporary, f"run {source.stem} {number}"), copies)
                print(
                    f"{source.name}: " + ", ".join(f"{name} {value:,.1f}" for name, value in found.items()), flush=True
                )
            if args.hashes:
                found = measure_search(args.hashes)
                print("hashes: " + ", ".join(f"{name} {value:,.1f}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
