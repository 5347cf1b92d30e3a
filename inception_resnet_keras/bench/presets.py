"""Sets of contenders that have a name."""

from __future__ import annotations

from dataclasses import dataclass

from .contenders import APART, APPLICATIONS, IN_TORCH, OPTIMIZED, TIMM

SLIM = "inception_resnet_v2:slim"

V4 = "inception_v4:slim"


@dataclass(frozen=True)
class Preset:
    """contenders: the baseline first. batches: of inference. training: batches of training steps."""

    about: str
    contenders: tuple[str, ...]
    batches: tuple[int, ...]
    training: tuple[int, ...] = ()


def _on_gpu(network: str) -> list[str]:
    """Ours: float32, TF32, both mixed precisions; graph and XLA; plain, optimized, with siblings apart; and timm's."""
    ours = [
        f"{network}{form}@{engine},{precision}"
        for precision in ("float32", "tf32", "mixed_bfloat16", "mixed_float16")
        for engine in ("graph", "xla")
        for form in ("", f"+{OPTIMIZED}", f"+{APART}")
    ]
    return [*ours, *(f"{TIMM}{network.partition(':')[0]}@{engine},bfloat16" for engine in IN_TORCH)]


PRESETS = {
    "cpu": Preset(
        "ResNet-v2 slim on a CPU: TensorFlow, OpenVINO, ONNX Runtime, LiteRT, and the peers",
        (
            f"{APPLICATIONS}@graph",
            *(f"{SLIM}{form}@{engine}" for engine in ("graph", "xla") for form in ("", f"+{OPTIMIZED}")),
            *(f"{SLIM}@openvino,{precision}" for precision in ("float32", "bfloat16", "int8")),
            *(
                f"{SLIM}@{engine},{precision}"
                for engine in ("onnxruntime", "litert")
                for precision in ("float32", "int8")
            ),
            *(f"{TIMM}inception_resnet_v2@{engine}" for engine in IN_TORCH),
        ),
        (1, 8),
    ),
    "gpu": Preset(
        "ResNet-v2 slim and v4 on a GPU: TensorFlow's precisions, with and without XLA, and the peers; with training",
        (
            f"{APPLICATIONS}@graph,mixed_bfloat16",
            *(f"{APPLICATIONS}@{how}" for how in ("graph,tf32", "xla,tf32", "xla,mixed_bfloat16")),
            *_on_gpu(SLIM),
            *_on_gpu(V4),
        ),
        (1, 32, 128, 256),
        (64, 128, 256),
    ),
}
