"""The five kinds of row that a network's table is made of, and the network itself.

A convolution means convolution without bias → batch norm without gamma → ReLU. A `linear` one is the paper's
filter-expansion layer: a convolution with a bias, without batch norm or ReLU. Padding is "same" or "valid" ("V" in the
paper's figures). A kernel is one number for a square, or (height, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Padding = Literal["same", "valid"]


@dataclass(frozen=True)
class Conv:
    """A convolution. `kernel=None` is a kernel as large as the map that it reads.

    `letter` is the paper's name for the filter count in Figure 7 and Table 1: k, l, m or n. Comparisons ignore it.
    """

    filters: int
    kernel: int | tuple[int, int] | None
    stride: int = 1
    padding: Padding = "same"
    linear: bool = False
    dilation: int = 1  # cells from one of the kernel's rows or columns to the next
    letter: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class Pool:
    """A pooling window. Average pooling with "same" padding does not count padding cells."""

    kind: Literal["max", "avg"]
    size: int = 3
    stride: int = 1
    padding: Padding = "same"
    dilation: int = 1


@dataclass(frozen=True)
class Fork:
    """Branches side by side over one input, concatenated in the order written."""

    branches: Sequence[Sequence[Row]]
    name: str = ""
    figure: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "branches", tuple(map(tuple, self.branches)))


@dataclass(frozen=True)
class Residual:
    """ReLU(x + scale · projection(concat(branches))).

    The projection is not written in a table: it is a linear 1×1 convolution as wide as x.
    """

    branches: Sequence[Sequence[Row]]
    name: str
    figure: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "branches", tuple(map(tuple, self.branches)))


@dataclass(frozen=True)
class Repeat:
    """A block, repeated `times` times. `scale` and `activation` apply to its residual sum.

    With `scale=None` the sum is never scaled, whatever scale is passed to a factory.
    """

    block: Fork | Residual
    times: int
    scale: float | None = None
    activation: bool = True

    def __post_init__(self) -> None:
        if self.times < 0:
            raise ValueError(f"times: block {self.block.name!r} cannot be repeated {self.times} times")


Row = Conv | Pool | Fork | Residual | Repeat


@dataclass(frozen=True)
class Preprocessing:
    """How pixels of 0-255 are scaled for a network: (pixel - mean) / divisor.

    Attributes:
        name: The name that `preprocess_input` takes.
        mean, divisor: One number for all channels, or one per channel, in the order red, green, blue.
        reverse: Whether the channels are then reversed to blue, green, red.
        per_image: Whether each image is standardised by its own mean and its own standard deviation, which is at
            least 1/√N for N numbers, as in `tf.image.per_image_standardization`.
    """

    name: str
    mean: float | tuple[float, float, float]
    divisor: float | tuple[float, float, float]
    reverse: bool = False
    per_image: bool = False

    @property
    def scale(self) -> float | tuple[float, ...]:
        """The factor in the equal form pixel · scale + offset, which `keras.layers.Rescaling` computes."""
        return 1 / self.divisor if isinstance(self.divisor, float) else tuple(1 / each for each in self.divisor)

    @property
    def offset(self) -> float | tuple[float, ...]:
        """The offset in the equal form pixel · scale + offset."""
        if isinstance(self.mean, float) and isinstance(self.divisor, float):
            return -self.mean / self.divisor
        means = (self.mean,) * 3 if isinstance(self.mean, float) else self.mean
        divisors = (self.divisor,) * 3 if isinstance(self.divisor, float) else self.divisor
        return tuple(-mean / divisor for mean, divisor in zip(means, divisors, strict=True))


RAW = Preprocessing("none", mean=0.0, divisor=1.0)  # 0-255: the model scales them itself, or needs no scaling
INCEPTION = Preprocessing("inception", mean=127.5, divisor=127.5)  # [-1, 1]
FACENET = Preprocessing("facenet", mean=127.5, divisor=128.0)
UNIT = Preprocessing("unit", mean=0.0, divisor=255.0)  # [0, 1]
# ImageNet's means, under the names of `keras.applications`: "caffe" for ResNet and VGG, "torch" for PyTorch.
CAFFE = Preprocessing("caffe", mean=(123.68, 116.779, 103.939), divisor=1.0, reverse=True)
TORCH = Preprocessing("torch", mean=(123.675, 116.28, 103.53), divisor=(58.395, 57.12, 57.375))
PER_IMAGE = Preprocessing("per_image_standardization", mean=127.5, divisor=64.0, per_image=True)  # typical values
PREPROCESSINGS = {row.name: row for row in (INCEPTION, FACENET, PER_IMAGE, UNIT, CAFFE, TORCH, RAW)}


@dataclass(frozen=True)
class Network:
    """A network's table: the stem, the stages, the rows after them, and the heads."""

    name: str
    variant: str
    stem: Sequence[Row]
    stages: Sequence[Fork | Repeat]
    final: Sequence[Row] = ()  # after the last stage, before pooling
    aux: Sequence[Row] = ()  # the auxiliary head's rows, before its dense layer
    aux_after: str = "b"  # the auxiliary head reads the output of the last block of this kind
    stem_figure: str = ""
    figure: str = ""  # of the whole network
    embedding: int | None = None  # width of an L2-normalised embedding before the classifier
    preprocessing: Preprocessing = INCEPTION
    size: int = 299  # side in pixels of the images that the network was designed for
    top: bool = True  # False if the network ends before its last block, and so has no heads

    def __post_init__(self) -> None:
        for rows in ("stem", "stages", "final", "aux"):
            object.__setattr__(self, rows, tuple(getattr(self, rows)))
        blocks = {stage.block.name for stage in self.stages if isinstance(stage, Repeat)}
        if self.aux and self.aux_after not in blocks:
            raise ValueError(f"aux_after: {self.name} has no block {self.aux_after!r}; it has {sorted(blocks)}")


AVG_POOL = Pool("avg")  # 3×3, "same": inside a block
MAX_POOL = Pool("max", stride=2, padding="valid")  # 3×3, s2, V: every maximum pool of the paper
# The released code's auxiliary head: none of the paper's figures shows one.
AUX_HEAD = (Pool("avg", size=5, stride=3, padding="valid"), Conv(128, 1), Conv(768, None, padding="valid"))
BATCH_NORM_EPSILON = 0.001  # added to every variance
DROPOUT_RATE = 0.2  # before the classifier: the paper keeps 0.8 (Figures 9 and 15)
