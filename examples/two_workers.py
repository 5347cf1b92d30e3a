"""Training on two workers: two processes on this machine act as two machines.

    uv run --extra cpu python examples/two_workers.py

Starts the same command twice; the environment variable TF_CONFIG tells each process which worker it is, as Kubeflow
sets it. On Slurm, `srun` replaces this script. Each worker trains on its half of every batch, gradients and
batch-norm statistics are combined over the network, and only the first worker writes. The guide to clusters has the
rules.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from digit_pictures import write_digits
from new_folder import new_folder

PROGRAM = (sys.executable, "-m", "inception_resnet_keras")

WORKERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="inception_resnet_v1")
    parser.add_argument("--size", type=int, default=75)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--per-class", type=int, default=40)
    parser.add_argument("--out", type=Path, help="a new folder for the results (default: a temporary one)")
    args = parser.parse_args()
    out = new_folder(args.out, "two-workers")
    data = write_digits(out / "digits", range(10), args.per_class)

    settings = {"data": data, "model": args.model, "size": args.size, "epochs": args.epochs, "out": out / "run"}
    command = [*PROGRAM, "train", *(f"--{name}={value}" for name, value in settings.items())]
    addresses = free_addresses(WORKERS)
    workers = []
    for index in range(WORKERS):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        said = None if index == 0 else subprocess.DEVNULL  # the first prints the progress of both
        workers.append(subprocess.Popen(command, env={**os.environ, "TF_CONFIG": json.dumps(cluster)}, stdout=said))
    try:
        statuses = [worker.wait() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    if any(statuses):
        sys.exit(f"the workers ended with {statuses}")
    chosen = json.loads((out / "run" / "config.json").read_text())["chosen"]
    report = json.loads((out / "run" / "report.json").read_text())
    print(f"{chosen['replicas']} workers, {chosen['steps']} steps, held-out accuracy {report['accuracy']:.1%}")
    print(f"everything is in {out}")


def free_addresses(count: int) -> list[str]:
    """Free ports; on machines of your own, choose one and write host:port."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


if __name__ == "__main__":
    main()
