"""How other projects name the layers and tensors of these networks: all name tables side by side.

A source's name for a layer is computed from the layer's slot, its name for a tensor from the layer's name and the
tensor's role. An example of each project's convention:

    TF-Slim                          InceptionV4/Mixed_5b/Branch_1/Conv2d_0b_3x3/weights
    davidsandberg/facenet            InceptionResnetV1/Repeat/block35_1/Branch_0/Conv2d_1x1/weights
    keras.applications               block35_1_conv/kernel, conv2d_17/kernel
    kentsommer/keras-inceptionV4     conv2d_17/kernel
    timm                             features.19.branch1.2.conv.weight, mixed_6a.branch1.2.conv.weight
    Cadene/pretrained-models         timm's, with another name of the classifier
    facenet-pytorch                  repeat_1.0.branch1.0.conv.weight
    nyoki-mtl/keras-facenet          Block35_1_Branch_0_Conv2d_1x1/kernel
    inception-resnet-keras           a03_branch_2_conv_1/kernel (this project)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ..networks import names
from .slots import Slot

TensorName = Callable[[str, Slot, str], str]
BACKGROUND = 1001  # number of classes including the background, class 0
EMA = "/ExponentialMovingAverage"

# The released networks' numbers for the stem's convolutions, and for the reductions and the first fork.
_STEM = ("1a", "2a", "2b", "3b", "4a", "4b")
_MIXED = {"stem": "5b", "reduction_a": "6a", "reduction_b": "7a"}

_KERAS_PASSED_OVER = {
    "training state": re.compile(r"(?:optimizer|optimizer_weights)/.*"),
    "random state of dropout": re.compile(r".*/seed_generator/vars/\d+"),
}


def is_training_state(name: str) -> bool:
    """Whether a tensor of a Keras file belongs to its optimizer, which may repeat the weights' names."""
    return bool(_KERAS_PASSED_OVER["training state"].fullmatch(name))


def drops_background(classes: int | None, wanted: int | None) -> bool:
    """Whether a file with `classes` classes serves `wanted` ones without its background, class 0 of 1001."""
    return classes == BACKGROUND and wanted == BACKGROUND - 1


@dataclass(frozen=True, eq=False)
class NameTable:
    """One source's names for the tensors of the networks that it has.

    Attributes:
        source: The source's name in messages.
        layers: By (network, variant), a function from a slot to the source's name of its layer; None for a layer that
            the source lacks.
        tensor: The name of a layer's tensor, from the layer's name, the slot and the role: kernel, bias, beta,
            moving_mean, moving_variance or gamma.
        channels_first: Whether kernels are (out, in, height, width) and (out, in), as in PyTorch.
        background: Whether class 0 of 1001 is "background", as in TF-Slim's weights; see `drops_background`.
        gamma: Whether the source's batch norms have a gamma.
        counters: Kinds of layers that are named by counters, with any first number: conv2d, conv2d_1, …
        passed_over: Patterns of tensors that inference does not use, by what they are.
    """

    source: str
    layers: Mapping[tuple[str, str], Callable[[Slot], str | None]]
    tensor: TensorName
    channels_first: bool = False
    background: bool = False
    gamma: bool = False
    counters: tuple[str, ...] = ()
    passed_over: Mapping[str, re.Pattern[str]] = field(default_factory=dict)


def _templates(
    normalised: Mapping[str, str], linear: Mapping[str, str], embedding: Mapping[str, str] | None = None
) -> TensorName:
    """Tensor names by role, with "{}" for the layer's name: with batch norm, without, and for the embedding."""

    def tensor(layer: str, slot: Slot, role: str) -> str:
        if embedding and slot.place == names.EMBEDDING:
            return embedding[role].format(layer)
        return (normalised if slot.normalised else linear)[role].format(layer)

    return tensor


# This package: every network under the names of its own layers, which networks.recognise reads.
OURS = NameTable(
    source="inception-resnet-keras",
    layers={},
    tensor=lambda layer, slot, role: slot.key(role),
    passed_over=_KERAS_PASSED_OVER,
)


# TF-Slim: scopes such as InceptionV4/Mixed_5b/Branch_1/Conv2d_0b_3x3.
_SLIM_NORMALISED = {
    "kernel": "{}/weights",
    "beta": "{}/BatchNorm/beta",
    "moving_mean": "{}/BatchNorm/moving_mean",
    "moving_variance": "{}/BatchNorm/moving_variance",
}

_SLIM_LINEAR = {"kernel": "{}/weights", "bias": "{}/biases"}

_SLIM_PASSED_OVER = {
    "training state": re.compile(
        r"(?:.*/)?(?:global_step|learning_rate|centers|beta[12]_power)(?:_\d+)?(?:/.*)?"
        r"|.*/(?:RMSProp|Adam|Adagrad|Adadelta|Ftrl|Momentum)(?:_\d+)?"
        r"|.*/avg(?:/(?:biased|local_step))?"  # of losses
    ),
    "running averages, which were not asked for": re.compile(rf".*{EMA}"),
}

_SLIM_REPEATS = {"a": "Repeat/block35", "b": "Repeat_1/block17", "c": "Repeat_2/block8"}


def _slim_conv(slot: Slot, label: str) -> str:
    height, width = slot.kernel
    return f"Conv2d_{label}{'_' if label else ''}{height}x{width}"


def _slim_label(slot: Slot, alone: str) -> str:
    """0a, 0b, … by the row's number in the branch; 1a for a row with valid padding."""
    if slot.row is not None and slot.row.padding == "valid":
        return "1a"
    step = slot.position + max(slot.inner - 1, 0)
    return alone if slot.alone else f"0{'abcdefgh'[step - 1]}"


def _slim_inception_v4(slot: Slot) -> str:
    return f"InceptionV4/{_slim_inception_v4_scope(slot)}"


def _slim_inception_v4_scope(slot: Slot) -> str:
    if slot.head:
        heads = {
            names.LOGITS: "Logits/Logits",
            "aux_conv_1": "AuxLogits/Conv2d_1b_1x1",
            "aux_conv_2": "AuxLogits/Conv2d_2a",
            "aux_logits": "AuxLogits/Aux_logits",
        }
        return heads[slot.name]
    if slot.conv:
        return _slim_conv(slot, _STEM[slot.conv - 1])
    if slot.fork:
        mixed = f"Mixed_{2 + slot.fork}a"
        label = "0a" if slot.fork == 1 else _slim_label(slot, "0a")  # only Mixed_3a's is 0a despite its stride
        return f"{mixed}/Branch_{slot.branch - 1}/{_slim_conv(slot, label)}"
    blocks = {"a": "5", "b": "6", "c": "7"}
    mixed = _MIXED.get(slot.place) or f"{blocks[slot.block]}{'abcdefgh'[slot.number]}"
    return f"Mixed_{mixed}/Branch_{slot.branch - 1}/{_slim_conv(slot, _slim_label(slot, '0a'))}"


def _slim_residual(slot: Slot) -> str:
    """Inception-ResNet's scopes, v1 and v2, below the network's own."""
    if slot.place == names.FINAL:
        return "Conv2d_7b_1x1"
    if slot.conv:
        return _slim_conv(slot, _STEM[slot.conv - 1])
    if slot.place in _MIXED:
        return f"Mixed_{_MIXED[slot.place]}/Branch_{slot.branch - 1}/{_slim_conv(slot, _slim_label(slot, ''))}"
    block = "Block8" if slot.last else f"{_SLIM_REPEATS[slot.block]}_{slot.number}"
    if slot.project:
        return f"{block}/Conv2d_1x1"
    return f"{block}/Branch_{slot.branch - 1}/{_slim_conv(slot, _slim_label(slot, ''))}"


def _slim_inception_resnet_v2(slot: Slot) -> str:
    heads = {
        names.LOGITS: "Logits/Logits",
        "aux_conv_1": "AuxLogits/Conv2d_1b_1x1",
        "aux_conv_2": "AuxLogits/Conv2d_2a_5x5",
        "aux_logits": "AuxLogits/Logits",
    }
    return f"InceptionResnetV2/{heads.get(slot.name) or _slim_residual(slot)}"


SLIM = NameTable(
    source="TF-Slim",
    layers={
        ("inception_v4", "slim"): _slim_inception_v4,
        ("inception_resnet_v2", "slim"): _slim_inception_resnet_v2,
    },
    tensor=_templates(_SLIM_NORMALISED, _SLIM_LINEAR),
    background=True,
    passed_over=_SLIM_PASSED_OVER,
)


# davidsandberg/facenet: TF-Slim's scopes, an embedding called Bottleneck, and a classifier outside the network's scope.
def _facenet_tf(slot: Slot) -> str:
    if slot.place == names.LOGITS:
        return "Logits"
    return "InceptionResnetV1/" + ("Bottleneck" if slot.place == names.EMBEDDING else _slim_residual(slot))


FACENET_TF = NameTable(
    source="davidsandberg/facenet",
    layers={("inception_resnet_v1", "facenet"): _facenet_tf, ("inception_resnet_v1", "facenet_128"): _facenet_tf},
    tensor=SLIM.tensor,
    passed_over=_SLIM_PASSED_OVER,
)


# keras.applications: unnamed convolutions are counted in the order of creation, which is that of the walk.
_CONV, _BATCH_NORM, _DENSE = "conv2d", "batch_normalization", "dense"
_APPLICATIONS_BLOCKS = {"a": "block35", "b": "block17", "c": "block8"}


def _applications_inception_resnet_v2(slot: Slot) -> str | None:
    if slot.head:
        return "predictions" if slot.place == names.LOGITS else None
    if slot.place == names.FINAL:
        return "conv_7b"
    return f"{_APPLICATIONS_BLOCKS[slot.block]}_{slot.number}_conv" if slot.project else f"{_CONV}_{slot.order}"


def _keras_tensor(layer: str, slot: Slot, role: str) -> str:
    """The batch norm of a counted convolution has the same number, that of a named one has a suffix."""
    if role in ("kernel", "bias"):
        return f"{layer}/{role}"
    counted = layer.startswith(f"{_CONV}_")
    return f"{layer.replace(_CONV, _BATCH_NORM) if counted else f'{layer}_bn'}/{role}"


KERAS_APPLICATIONS = NameTable(
    source="keras.applications",
    layers={("inception_resnet_v2", "slim"): _applications_inception_resnet_v2},
    tensor=_keras_tensor,
    counters=(_CONV, _BATCH_NORM),
    passed_over=_KERAS_PASSED_OVER,
)


# kentsommer/keras-inceptionV4: every layer is counted in the order of creation, which is that of the walk.
def _kentsommer_inception_v4(slot: Slot) -> str | None:
    if slot.head:
        return f"{_DENSE}_0" if slot.place == names.LOGITS else None
    return f"{_CONV}_{slot.order}"


KENTSOMMER = NameTable(
    source="kentsommer/keras-inceptionV4",
    layers={("inception_v4", "slim"): _kentsommer_inception_v4},
    tensor=_keras_tensor,
    background=True,
    counters=(_CONV, _BATCH_NORM, _DENSE),
    passed_over=_KERAS_PASSED_OVER,
)


# timm: state dicts of modules such as mixed_6a.branch1.2 and features.19.branch1_1a.
_TORCH_NORMALISED = {
    "kernel": "{}.conv.weight",
    "beta": "{}.bn.bias",
    "gamma": "{}.bn.weight",
    "moving_mean": "{}.bn.running_mean",
    "moving_variance": "{}.bn.running_var",
}

_TORCH_LINEAR = {"kernel": "{}.weight", "bias": "{}.bias"}
_TORCH_PASSED_OVER = {"batch counters": re.compile(r".*\.num_batches_tracked")}
_TIMM_REPEATS = {"a": "repeat", "b": "repeat_1", "c": "repeat_2"}


def _torch_branch(slot: Slot) -> str:
    """`branch0` for a branch of one row, otherwise `branch1.2`; rows count from 0, pools included."""
    return f"branch{slot.branch - 1}" + ("" if slot.alone else f".{slot.position - 1}")


def _timm_inception_v4(slot: Slot) -> str | None:
    if slot.head:
        return "last_linear" if slot.place == names.LOGITS else None
    unit = f"features.{slot.unit}"
    if slot.conv:
        return unit
    if slot.pools:
        return f"{unit}.conv"
    if slot.inner:
        return f"{unit}.branch{slot.branch - 1}_{slot.position - 1}{'ab'[slot.inner - 1]}"
    if slot.branching:
        return f"{unit}.branch{slot.branch - 1}_{slot.position - 1}"
    return f"{unit}.{_torch_branch(slot)}"


def _torch_residual(slot: Slot, repeats: dict[str, str]) -> str:
    """Inception-ResNet's modules, v1 and v2."""
    if slot.place == names.FINAL:
        return "conv2d_7b"
    if slot.conv:
        return f"conv2d_{_STEM[slot.conv - 1]}"
    if slot.place in _MIXED:
        return f"mixed_{_MIXED[slot.place]}.{_torch_branch(slot)}"
    block = "block8" if slot.last else f"{repeats[slot.block]}.{slot.number - 1}"
    return f"{block}.conv2d" if slot.project else f"{block}.{_torch_branch(slot)}"


def _timm_inception_resnet_v2(slot: Slot) -> str | None:
    if slot.head:
        return "classif" if slot.place == names.LOGITS else None
    return _torch_residual(slot, _TIMM_REPEATS)


TIMM = NameTable(
    source="timm",
    layers={
        ("inception_v4", "slim"): _timm_inception_v4,
        ("inception_resnet_v2", "slim"): _timm_inception_resnet_v2,
    },
    tensor=_templates(_TORCH_NORMALISED, _TORCH_LINEAR),
    channels_first=True,
    background=True,  # timm publishes 1000 classes; Cadene's Inception-v4, of the same names, also has 1001
    gamma=True,
    passed_over=_TORCH_PASSED_OVER,
)


# Cadene's pretrainedmodels: the origin of timm's modules; both projects later renamed their classifiers.
def _cadene(classifier: str, layer_of: Callable[[Slot], str | None]) -> Callable[[Slot], str | None]:
    def layer(slot: Slot) -> str | None:
        return classifier if slot.place == names.LOGITS else layer_of(slot)

    return layer


CADENE = replace(
    TIMM,
    source="Cadene/pretrained-models",
    layers={
        ("inception_v4", "slim"): _cadene("classif", _timm_inception_v4),
        ("inception_resnet_v2", "slim"): _cadene("last_linear", _timm_inception_resnet_v2),
    },
)


# facenet-pytorch: timm's modules with other names for the repeats, last_linear and last_bn, and logits.
_FACENET_REPEATS = {"a": "repeat_1", "b": "repeat_2", "c": "repeat_3"}

_FACENET_EMBEDDING = {  # the dense layer and its batch norm are sibling modules
    "kernel": "{}_linear.weight",
    "beta": "{}_bn.bias",
    "gamma": "{}_bn.weight",
    "moving_mean": "{}_bn.running_mean",
    "moving_variance": "{}_bn.running_var",
}


def _facenet_pytorch(slot: Slot) -> str:
    heads = {names.LOGITS: "logits", names.EMBEDDING: "last"}
    return heads.get(slot.place) or _torch_residual(slot, _FACENET_REPEATS)


FACENET_PYTORCH = NameTable(
    source="facenet-pytorch",
    layers={
        ("inception_resnet_v1", "facenet"): _facenet_pytorch,
        ("inception_resnet_v1", "facenet_128"): _facenet_pytorch,
    },
    tensor=_templates(_TORCH_NORMALISED, _TORCH_LINEAR, _FACENET_EMBEDDING),
    channels_first=True,
    gamma=True,
    passed_over=_TORCH_PASSED_OVER,
)


# nyoki-mtl/keras-facenet and other Keras ports: davidsandberg's scopes joined into one name by underscores.
_FACENET_KERAS = {
    "kernel": "{}/kernel",
    "bias": "{}/bias",
    "beta": "{}_BatchNorm/beta",
    "moving_mean": "{}_BatchNorm/moving_mean",
    "moving_variance": "{}_BatchNorm/moving_variance",
}


def _facenet_keras(last: str) -> Callable[[Slot], str]:
    """`last` is the name of the last block, which TF-Slim calls Block8."""

    def layer(slot: Slot) -> str:
        scopes = _facenet_tf(slot).removeprefix("InceptionResnetV1/").split("/")
        if scopes[0].startswith("Repeat"):
            scopes = [scopes[1].replace("block", "Block"), *scopes[2:]]
        elif scopes[0] == "Block8":
            scopes[0] = last
        return "_".join(scopes)

    return layer


def _facenet_keras_table(last: str) -> NameTable:
    return NameTable(
        source="nyoki-mtl/keras-facenet",
        layers={("inception_resnet_v1", variant): _facenet_keras(last) for variant in ("facenet", "facenet_128")},
        tensor=_templates(_FACENET_KERAS, _FACENET_KERAS),
        passed_over=_KERAS_PASSED_OVER,
    )


FACENET_KERAS, FACENET_KERAS_SCOPES = _facenet_keras_table("Block8_6"), _facenet_keras_table("Block8")

OTHERS = (
    *(SLIM, FACENET_TF, KERAS_APPLICATIONS, KENTSOMMER, TIMM, CADENE),
    *(FACENET_PYTORCH, FACENET_KERAS, FACENET_KERAS_SCOPES),
)
