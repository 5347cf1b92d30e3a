"""A load on the server over loopback: its throughput beside the bare runtime's, its latency, and its memory.

    python -m tests.serving_load RUN/model.xml
    python -m tests.serving_load RUN/model.xml --rounds 0 --requests 20000 --clients 16

The bare runtime and the server take turns, each in a process of its own, so that other work on the machine slows both
alike. A bare turn runs batches of pixels that are in memory; a server's turn sends JPEG files of 500×375 from clients
that each wait for their answer before they send the next. It is no part of the suite.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import psutil
from PIL import Image
from sklearn.datasets import load_sample_images

BARE = """
import sys, time
import numpy as np
from inception_resnet_keras.models.runtimes import open_runtime

runtime, batch = open_runtime(sys.argv[1]), int(sys.argv[2])
images = np.random.default_rng(0).uniform(0, 255, (batch, *runtime.card.size, 3)).astype(np.float32)
runtime.run(images)
for line in iter(sys.stdin.readline, ""):
    count, begun, busy = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < float(line):
        runtime.run(images)
        count += batch
    print(count, time.perf_counter() - begun, time.process_time() - busy, flush=True)
"""


def requests() -> list[bytes]:
    """Two photographs as requests of /predict."""
    found = []
    for photograph in load_sample_images().images:
        stream = BytesIO()
        Image.fromarray(photograph).resize((500, 375), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=85)
        content = stream.getvalue()
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}"
        found.append(f"{head}\r\n\r\n".encode() + content)
    return found


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """The status of the answer."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return int(head.split(b" ", 2)[1])


async def load(port: int, clients: int, *, seconds: float = 0.0, count: int = 0) -> tuple[list[float], float]:
    """Latencies of the answered requests of a turn, which lasts so long or has so many; and its seconds."""
    sent = requests()
    latencies: list[float] = []
    begun = time.perf_counter()
    left = count

    async def client(number: int) -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() - begun < seconds or left > 0:
            left -= 1
            started = time.perf_counter()
            status = await ask(reader, writer, sent[number % len(sent)])
            assert status == 200, status
            latencies.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*map(client, range(clients)))
    return latencies, time.perf_counter() - begun


@contextmanager
def served(model: str, *options: str) -> Iterator[tuple[psutil.Process, int]]:
    command = [sys.executable, "-m", "inception_resnet_keras", "serve", model, "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        print(line.strip())
        try:
            yield psutil.Process(process.pid), int(line.split(" ", 1)[0].rpartition(":")[2])
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def compare(model: str, *, rounds: int, seconds: float, clients: int, batch: int) -> None:
    """Turns of the bare runtime and of the server."""
    command = [sys.executable, "-c", BARE, model, str(batch)]
    pipes: dict[str, int] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        served(model, "--max-batch", str(batch)) as (server, port),
        subprocess.Popen(command, text=True, **pipes) as bare,  # type: ignore[call-overload]
    ):
        walls, busies, latencies, own = [], [], [], []
        asyncio.run(load(port, clients, seconds=1))
        for number in range(rounds):
            bare.stdin.write(f"{seconds}\n")
            bare.stdin.flush()
            images, wall, busy = map(float, bare.stdout.readline().split())
            before, mine = sum(server.cpu_times()[:2]), time.process_time()
            found, taken = asyncio.run(load(port, clients, seconds=seconds))
            theirs, mine = sum(server.cpu_times()[:2]) - before, time.process_time() - mine
            walls.append((len(found) / taken) / (images / wall))
            busies.append((busy / images) / (theirs / len(found)))
            own.append(mine / len(found))
            latencies += found
            print(
                f"round {number + 1}: bare {images / wall:.1f} images/s, {1e3 * busy / images:.1f} ms of processor; "
                f"served {len(found) / taken:.1f} images/s, {1e3 * theirs / len(found):.1f} ms"
            )
        bare.stdin.close()
        for what, ratios in (("throughput", walls), ("images per processor second", busies)):
            print(
                f"{what} against the bare runtime at batch {batch}: {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f}–{max(ratios):.2f})"
            )
        print(f"the clients' own processor time: {1e3 * statistics.median(own):.2f} ms an image")
        tell(latencies, clients)


def tell(latencies: list[float], clients: int) -> None:
    shares = np.percentile(latencies, [50, 95, 99])
    print(
        f"latency with {clients} clients, {len(latencies)} requests: "
        + ", ".join(f"p{name} {1e3 * value:.1f} ms" for name, value in zip((50, 95, 99), shares, strict=True))
    )


def endure(model: str, *, count: int, clients: int, parts: int = 10) -> None:
    """Many requests, and the server's memory after each tenth of them."""
    with served(model) as (server, port):
        every: list[float] = []
        before = sum(server.cpu_times()[:2])
        for _ in range(parts):
            found, taken = asyncio.run(load(port, clients, count=count // parts))
            every += found
            memory = server.memory_info().rss / 1024**2
            print(f"after {len(every):,} requests: {memory:.1f} MiB, {len(found) / taken:.0f} requests/s", flush=True)
        busy = sum(server.cpu_times()[:2]) - before
        print(f"{1e3 * busy / len(every):.2f} ms of processor a request")
        tell(every, clients)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a turn")
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--requests", type=int, default=0, help="to watch the memory over")
    args = parser.parse_args()
    print(json.dumps(vars(args)))
    if args.rounds:
        compare(args.model, rounds=args.rounds, seconds=args.seconds, clients=args.clients, batch=args.batch)
    if args.requests:
        endure(args.model, count=args.requests, clients=args.clients)


if __name__ == "__main__":
    main()
