"""The most multiply-adds a second that the machine shows: a large matrix product, in each type that is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

SECONDS = 0.5  # of each product's turn

SIDES = {"cpu": 2048, "gpu": 8192}

CHAINED = 4  # OpenVINO's products, one after another: what comes in and goes out is then little beside them


def measure(types: list[str], device: str, threads: int | None = None) -> dict[str, dict[str, Any]]:
    """By type ("float32", "tf32", "bfloat16", "float16", "int8"): macs_per_second, and by which library.

    The faster of TensorFlow's product and, on a CPU, OpenVINO's where it is installed; of float16 there
    OpenVINO's alone, as TensorFlow's is not made for it. A type that neither multiplies has no figure.
    """
    found = {}
    for kind in types:
        tries = [("TensorFlow", 1, lambda kind=kind: _tensorflow(kind, device, threads))]
        if device == "cpu":
            tries.append(("OpenVINO", CHAINED, lambda kind=kind: _openvino(kind, threads)))
        speeds = {}
        for library, products, opening in tries:
            try:
                speeds[library] = products * SIDES[device] ** 3 / _fastest(opening())
            except (ImportError, NotImplementedError):
                continue
        if speeds:
            library = max(speeds, key=lambda name: speeds[name])
            found[kind] = {"macs_per_second": speeds[library], "by": library}
    return found


def _fastest(product: Callable[[], Any]) -> float:
    product()
    times: list[float] = []
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until or len(times) < 3:
        start = time.perf_counter()
        product()
        times.append(time.perf_counter() - start)
    return min(times)  # a peak: whatever else ran only ever slows it


def _tensorflow(kind: str, device: str, threads: int | None) -> Callable[[], Any]:
    import tensorflow as tf

    from ..models.runtimes import use_threads

    if kind == "int8" or (kind in ("tf32", "float16") and device == "cpu"):
        raise NotImplementedError
    if threads is not None:
        use_threads(threads)
    tf.config.experimental.enable_tensor_float_32_execution(kind == "tf32")
    side = SIDES[device]
    with tf.device("/GPU:0" if device == "gpu" else "/CPU:0"):
        values = tf.random.stateless_normal((side, side), (0, 0))
        matrix = tf.identity(tf.cast(values, "float32" if kind == "tf32" else kind))
        one = tf.constant(0)

        @tf.function(autograph=False)
        def multiply() -> Any:
            return tf.cast(tf.linalg.matmul(matrix, matrix)[one, one], tf.float32)

    return lambda: multiply().numpy()


def _openvino(kind: str, threads: int | None) -> Callable[[], Any]:
    """Fully connected layers, one after another: of int8 each takes and gives int8, as quantised networks have it."""
    import openvino as ov
    from openvino import opset13 as ops

    hints = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}
    if kind not in hints:
        raise NotImplementedError
    side = SIDES["cpu"]
    matrix = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    values = parameter = ops.parameter([side, side], np.float32)
    scale = np.float32(1 / (32 * side**0.5))  # so that each product is as large as what it is of
    weights = ops.constant(32 * scale * matrix)
    if kind == "int8":
        small = ops.constant(np.clip(matrix * 32, -127, 127).astype(np.int8))
        weights = ops.multiply(ops.convert(small, np.float32), ops.constant(scale))
    low, high = np.float32(-4), np.float32(4)
    for _ in range(CHAINED):
        if kind == "int8":
            values = ops.fake_quantize(values, low, high, low, high, 256)
        values = ops.matmul(values, weights, False, True)
    # The largest alone leaves: writing the whole product out would be timed too.
    largest = ops.reduce_max(values, ops.constant([0, 1]))
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hints[kind]}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    request = ov.Core().compile_model(ov.Model([largest], [parameter]), "CPU", settings).create_infer_request()
    return lambda: request.infer([matrix], share_inputs=True)
