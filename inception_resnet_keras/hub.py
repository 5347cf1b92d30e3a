"""These networks in keras-hub's detectors, segmenters and classifiers: `backbone` turns a network into a Backbone.

Importing this module registers its classes, so that Keras and keras-hub can load models saved with them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from . import networks
from .common.errors import InputError, refuse
from .common.files import replacing
from .common.packages import named_extras
from .networks.build import BATCH_NORM_MOMENTUM, build
from .networks.checks import apply_depths, apply_scale
from .networks.edits import with_output_stride, with_padding
from .networks.features import endpoints
from .networks.keras_graph import flattened
from .networks.recognise import layer_prefix, whole_network
from .networks.rows import Padding

with named_extras("inception_resnet_keras.hub"):
    import keras_hub

PACKAGE = "inception_resnet_keras"
LEVELS = {f"P{level}": f"stride_{2**level}" for level in range(2, 6)}  # keras-hub's name of a map → ours


@keras.saving.register_keras_serializable(package=PACKAGE)
class InceptionBackbone(keras_hub.models.FeaturePyramidBackbone):
    """A network of this package without its top, for keras-hub's tasks.

    Args:
        network: "inception_v4", "inception_resnet_v1" or "inception_resnet_v2".
        variant: The network's table, as for the factories, such as "paper".
        depths: Number of blocks A, B and C, each at least 1; None for the variant's own.
        scale: Residual scales, as for the factories; True for Inception-v4, which has none.
        padding: "same" aligns the maps, as detectors and segmenters need it; "valid" is the paper's padding.
        output_stride: Stride of the last map, 16 or 8; None is 32.
        image_shape: (height, width, channels), or channels first if Keras is configured so. A side of None has any
            length.
        include_preprocessing: Whether the network scales pixels of 0-255 itself.
        batch_norm_momentum: Momentum of the moving averages, in [0, 1).
        dtype: A Keras dtype policy or its name; None is the global one.
        kwargs: `name` and `trainable`.

    Raises:
        ValueError: An argument is out of range.

    Examples:
        >>> backbone = InceptionBackbone("inception_resnet_v1", depths=(1, 1, 1), include_preprocessing=True)
        >>> {level: map.shape[-1] for level, map in backbone.pyramid_outputs.items()}
        {'P2': 192, 'P3': 256, 'P4': 896, 'P5': 1792}
    """

    def __init__(
        self,
        network: str = "inception_resnet_v2",
        *,
        variant: str = "paper",
        depths: Sequence[int] | None = None,
        scale: bool | float | Sequence[float] = True,
        padding: Padding = "same",
        output_stride: int | None = None,
        image_shape: Sequence[int | None] = (None, None, 3),
        include_preprocessing: bool = False,
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        # The table, edited as the factories do, and its Keras model.
        table = apply_depths(networks.find(network, variant), depths)
        if networks.is_residual(table):
            table = apply_scale(table, scale)
        elif scale is not True:
            raise refuse("scale", scale, f"True: {network} has no residual sums")
        trunk = build(
            with_output_stride(with_padding(table, padding), output_stride),
            include_top=False,
            input_shape=image_shape,
            include_preprocessing=include_preprocessing,
            batch_norm_momentum=batch_norm_momentum,
            dtype=dtype,
        )
        # keras-hub needs the maps by level, and the arguments for `get_config`.
        maps = endpoints(trunk)
        super().__init__(inputs=trunk.inputs[0], outputs=trunk.output, dtype=dtype, **kwargs)
        if padding == "same":
            self.pyramid_outputs = {level: maps[name] for level, name in LEVELS.items() if name in maps}
        self.data_format = keras.config.image_data_format()
        self.image_shape = tuple(image_shape)
        self.settings = {
            "network": network,
            "variant": variant,
            "depths": None if depths is None else list(depths),
            "scale": list(scale) if isinstance(scale, Sequence) else scale,
            "padding": padding,
            "output_stride": output_stride,
            "image_shape": list(image_shape),
            "include_preprocessing": include_preprocessing,
            "batch_norm_momentum": batch_norm_momentum,
        }

    @property
    def pyramid_outputs(self) -> dict[str, keras.KerasTensor]:
        """The last map of each stride, "P2" to "P5" for strides 4 to 32, as far as the network has them.

        Raises ValueError for a network with valid padding, whose maps are not aligned with the image.
        """
        if self.settings["padding"] != "same":
            raise InputError(
                "pyramid_outputs: the maps of a network with padding='valid' are not aligned; build it with "
                "padding='same', which takes the same weights"
            )
        return keras_hub.models.FeaturePyramidBackbone.pyramid_outputs.fget(self)

    @pyramid_outputs.setter
    def pyramid_outputs(self, value: dict[str, keras.KerasTensor]) -> None:
        keras_hub.models.FeaturePyramidBackbone.pyramid_outputs.fset(self, value)

    def get_config(self) -> dict[str, Any]:
        """The arguments that build this backbone again."""
        return {**super().get_config(), **self.settings}

    def save_to_preset(self, preset_dir: str, max_shard_size: float | None = 10) -> None:
        """Save the backbone to a preset, alone or as part of a task that keras-hub saves.

        In the preset, a plain `keras_hub.models.ImageClassifier` is replaced by an `InceptionImageClassifier`, which
        differs only in its name, because `from_preset` loads only tasks whose class is registered for their backbone.

        Args:
            preset_dir: The folder.
            max_shard_size: Size in gigabytes above which the weights are split into several files; None never splits
                them.
        """
        super().save_to_preset(preset_dir, max_shard_size=max_shard_size)
        path = Path(preset_dir) / "task.json"
        task = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        if task.get("registered_name") == keras.saving.get_registered_name(keras_hub.models.ImageClassifier):
            ours = InceptionImageClassifier
            task |= {
                "module": ours.__module__,
                "class_name": ours.__name__,
                "registered_name": keras.saving.get_registered_name(ours),
            }
            with replacing(path) as beside:
                beside.write_text(json.dumps(task, indent=4), "utf-8")


@keras.saving.register_keras_serializable(package=PACKAGE)
class InceptionImageClassifier(keras_hub.models.ImageClassifier):
    """keras-hub's image classifier on an `InceptionBackbone`.

    `keras_hub.models.ImageClassifier.from_preset` returns one, also if a plain `ImageClassifier` was saved.
    """

    backbone_cls = InceptionBackbone


def backbone(model: keras.Model, *, name: str | None = None) -> InceptionBackbone:
    """A keras-hub backbone that computes the same as a network of this package without its top.

    Args:
        model: A model built by a factory of this package, with or without its top; or a model that contains such a
            network. For detectors and segmenters, build it with `padding="same"`, which fits every checkpoint. It is
            not changed: the backbone gets a copy of its weights.
        name: The backbone's name. None is the model's.

    Returns:
        The backbone, for images of any size, with `pyramid_outputs` P2 to P5. It has the model's number of channels,
        preprocessing, dtype policy and batch-norm momentum. `save_to_preset` and `keras.Model.save` save it.

    Raises:
        ValueError: The model is not one of this package's networks, is only a part of one, or does not compute what
            its table describes.

    Examples:
        >>> import keras_hub
        >>> from inception_resnet_keras import create_inception_resnet_v2, hub
        >>> model = create_inception_resnet_v2(  # for a trained one: weights="imagenet" instead of depths
        ...     variant="slim", include_top=False, depths=(1, 1, 1), padding="same", include_preprocessing=True
        ... )
        >>> encoder = hub.backbone(model)
        >>> pyramid = keras_hub.models.RetinaNetBackbone(encoder, min_level=3, max_level=7, use_p5=False)
        >>> detector = keras_hub.models.RetinaNetObjectDetector(pyramid, num_classes=20)
        >>> encoder.pyramid_outputs["P5"].shape
        (None, None, None, 1536)
    """
    if not isinstance(model, keras.Model):
        raise refuse("model", model, "a Keras model of this package")
    flat = flattened(model) or model
    found = whole_network(flat, "a whole network, built by a factory of this package")
    prefix = layer_prefix(flat)
    first = flat.get_layer(f"{prefix}stem_conv_1")
    sides = (found.channels, None, None) if found.data_format == "channels_first" else (None, None, found.channels)
    made = InceptionBackbone(
        found.name,
        image_shape=sides,
        scale=found.settings().get("scale", True),
        include_preprocessing=bool(found.include_preprocessing),
        batch_norm_momentum=flat.get_layer(f"{prefix}stem_conv_1_bn").momentum,
        dtype=first.dtype_policy,
        name=name or model.name,
        **{"padding": found.padding, **found.network_options()},
    )
    # The layers have the same names in both, so that the weights can be copied by name.
    for layer in made.layers:
        if layer.weights:
            layer.set_weights(flat.get_layer(f"{prefix}{layer.name}").get_weights())
    return made
