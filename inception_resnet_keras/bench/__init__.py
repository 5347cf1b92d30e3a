"""Benchmark networks, engines and precisions: each contender in its own process, in turns, against a baseline."""
