"""keras-hub's detectors, segmenters and classifiers on these networks: `backbone` makes a `keras_hub` Backbone of one.

Importing this module registers its classes, so that Keras and keras-hub can load what was saved with them.
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
LEVELS = {f"P{level}": f"stride_{2**level}" for level in range(2, 6)}


@keras.saving.register_keras_serializable(package=PACKAGE)
class InceptionBackbone(keras_hub.models.FeaturePyramidBackbone):
    """A network of this package without its top, as keras-hub's tasks take it.

    Args:
        network: "inception_v4", "inception_resnet_v1" or "inception_resnet_v2".
        variant: The network's table, as the factories take it.
        depths: How many of the blocks A, B and C; None for the variant's own.
        scale: Residual scales, as the factories take them; of Inception-v4 True.
        padding: "same" aligns the maps, as detectors and segmenters need it; "valid" is the paper's.
        output_stride: Stride of the last map: None is 32; 16 or 8.
        image_shape: (height, width, channels), or channels first as Keras is set; None for a side of any length.
        include_preprocessing: Whether the network scales pixels of 0-255 itself.
        batch_norm_momentum: Momentum of the moving averages.
        dtype: Keras's dtype policy, or its name.
        kwargs: `name` and `trainable`.

    Raises:
        ValueError: An argument is out of range.

    Examples:
        ```python
        backbone = InceptionBackbone("inception_resnet_v2", include_preprocessing=True)
        ```
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
        """The last map of each stride, "P2" to "P5" for strides 4 to 32, as far as the network goes.

        Raises ValueError for a network with valid padding, whose maps are not the image's size over their stride.
        """
        if self.settings["padding"] != "same":
            raise InputError(
                "pyramid_outputs: the maps of a network with padding='valid' do not align; build it with "
                "padding='same', which the same weights fit"
            )
        return keras_hub.models.FeaturePyramidBackbone.pyramid_outputs.fget(self)

    @pyramid_outputs.setter
    def pyramid_outputs(self, value: dict[str, keras.KerasTensor]) -> None:
        keras_hub.models.FeaturePyramidBackbone.pyramid_outputs.fset(self, value)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}

    def save_to_preset(self, preset_dir: str, max_shard_size: float | None = 10) -> None:
        """Save the backbone to a preset, alone or as the last part of a task that keras-hub saves there.

        A plain `keras_hub.models.ImageClassifier` is noted in the preset as an `InceptionImageClassifier`, which is the
        same in all but its name: `from_preset` loads no task of a class that is not registered for its backbone.

        Args:
            preset_dir: The folder.
            max_shard_size: Gigabytes above which the weights are split into several files; None for never.
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

    `keras_hub.models.ImageClassifier.from_preset` gives one, whether it or a plain `ImageClassifier` was saved.
    """

    backbone_cls = InceptionBackbone


def backbone(model: keras.Model, *, name: str | None = None) -> InceptionBackbone:
    """A keras-hub backbone that computes what a network of this package does below its top.

    Args:
        model: A model as a factory of this package builds it, with or without its top, loaded or not; or one with such
            a network inside it. For detectors and segmenters it is built with `padding="same"`, which every
            checkpoint fits. It stays as it is: the backbone has weights of its own, which are equal.
        name: The backbone's name. None is the model's.

    Returns:
        The backbone, for images of any size, with `pyramid_outputs` P2 to P5. Its `image_shape`, preprocessing, dtype
        policy and batch-norm momentum are the model's, and `save_to_preset` and `keras.Model.save` save it.

    Raises:
        ValueError: The model is none of the package's networks, ends within one, or computes something else than its
            table.

    Examples:
        ```python
        import keras_hub
        from inception_resnet_keras import create_inception_resnet_v2, hub

        model = create_inception_resnet_v2(
            variant="slim", include_top=False, padding="same", include_preprocessing=True, weights="imagenet"
        )
        encoder = hub.backbone(model)
        pyramid = keras_hub.models.RetinaNetBackbone(encoder, min_level=3, max_level=7, use_p5=False)
        detector = keras_hub.models.RetinaNetObjectDetector(pyramid, num_classes=20)
        ```
    """
    if not isinstance(model, keras.Model):
        raise refuse("model", model, "a Keras model of this package")
    flat = flattened(model) or model
    found = whole_network(flat, "a whole network, as a factory of this package builds it")
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
    for layer in made.layers:
        if layer.weights:
            layer.set_weights(flat.get_layer(f"{prefix}{layer.name}").get_weights())
    return made
