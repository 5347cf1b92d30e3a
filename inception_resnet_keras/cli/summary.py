"""Prints a network's stages: output shape, parameters, multiply-adds."""

from __future__ import annotations

import argparse

from .. import spec

HELP = "a network's stages: output shape, parameters, multiply-adds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_network_arguments(parser, nargs=None)


def add_network_arguments(parser: argparse.ArgumentParser, nargs: str | None) -> None:
    parser.add_argument("network", nargs=nargs, choices=list(spec.NETWORKS), help="one of %(choices)s")


def run(args: argparse.Namespace) -> None:
    raise NotImplementedError
