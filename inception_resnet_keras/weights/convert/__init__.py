"""Other projects' checkpoints into our names: one small name table a source, one engine over them."""

from __future__ import annotations

from . import facenet_pytorch, facenet_tf, kentsommer, keras_applications, ours, slim, timm

TABLES = tuple(
    module.TABLE for module in (ours, slim, facenet_tf, keras_applications, kentsommer, timm, facenet_pytorch)
)
