"""Where public weights live, and what must be known to use them.

No hash is invented: `hash` is None where the publisher gives none. Such a file's SHA-256 is written
beside it when it is first fetched, and it must be the same ever after.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import networks
from ..common.errors import InputError, refuse
from ..networks import names
from ..networks.rows import Network
from . import download
from .convert import ours
from .convert.engine import BACKGROUND, NewHead
from .convert.identify import Shape, identify
from .labels import label_offset

CACHE = "models/inception-resnet-keras"  # below Keras's folder

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/inception_resnet_v2/"

_SLIM = "https://download.tensorflow.org/models/"

_KENTSOMMER = "https://github.com/kentsommer/keras-inceptionV4/releases/download/2.1/"

_FACENET = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"

_V1, _V2, _V4 = ("inception_resnet_v1", "facenet"), ("inception_resnet_v2", "slim"), ("inception_v4", "slim")


@dataclass(frozen=True)
class Weights:
    """One published file.

    location: Its URL, or `hub:REPOSITORY/FILE` on the Hugging Face hub.
    hash: As its source publishes it, "md5:…"; None where it publishes none.
    network, variant: What it fits. classes: Of its classifier; None without one.
    preprocessing: "inception" or "facenet", as `preprocess_input` has them. size: Pixels a side.
    crop: The share of the picture that is looked at in evaluation, cut out of the middle, with the mode and
        interpolation of `data.crops.View` that go with it; None where unpublished.
    accuracy: As published, %: by measure. licence: As its source's repository states it.
    """

    location: str
    hash: str | None
    network: str
    variant: str
    classes: int | None
    licence: str
    preprocessing: str = "inception"
    size: int = 299
    crop: float | None = None
    crop_mode: str = "squash"
    interpolation: str = "bilinear"
    accuracy: Mapping[str, float] | None = None
    aux_head: bool = False

    @property
    def label_offset(self) -> int | None:
        """The number of ImageNet's first class: 1 where class 0 is "background"; None of other classes than its."""
        return label_offset(self.classes)


# timm's own settings of these weights, beside its `crop_pct`.
_TIMM: dict[str, Any] = {"crop_mode": "center", "interpolation": "bicubic"}


def _top(top1: float, top5: float) -> dict[str, float]:
    return {"ImageNet top-1": top1, "ImageNet top-5": top5}


WEIGHTS: dict[str, Weights] = {
    "keras/inception_resnet_v2": Weights(
        f"{_KERAS}inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5",
        "md5:e693bd0210a403b3192acc6073ad2e96",
        *_V2,
        1000,
        "Apache-2.0",
        accuracy=_top(80.3, 95.3),
    ),
    "keras/inception_resnet_v2_notop": Weights(
        f"{_KERAS}inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:d19885ff4a710c122648d3b5c3b684e4",
        *_V2,
        None,
        "Apache-2.0",
    ),
    "slim/inception_v4": Weights(
        f"{_SLIM}inception_v4_2016_09_09.tar.gz",
        None,
        *_V4,
        1001,
        "Apache-2.0",
        crop=0.875,
        accuracy=_top(80.2, 95.2),
        aux_head=True,
    ),
    "slim/inception_resnet_v2": Weights(
        f"{_SLIM}inception_resnet_v2_2016_08_30.tar.gz",
        None,
        *_V2,
        1001,
        "Apache-2.0",
        crop=0.875,
        accuracy=_top(80.4, 95.3),
        aux_head=True,
    ),
    "slim/ens_adv_inception_resnet_v2": Weights(
        f"{_SLIM}ens_adv_inception_resnet_v2_2017_08_18.tar.gz",
        None,
        *_V2,
        1001,
        "Apache-2.0",
        crop=0.875,
        aux_head=True,
    ),
    "timm/inception_v4.tf_in1k": Weights(
        "hub:timm/inception_v4.tf_in1k/model.safetensors",
        None,
        *_V4,
        1000,
        "Apache-2.0",
        crop=0.875,
        **_TIMM,
        accuracy=_top(80.14, 94.98),
    ),
    "timm/inception_resnet_v2.tf_in1k": Weights(
        "hub:timm/inception_resnet_v2.tf_in1k/model.safetensors",
        None,
        *_V2,
        1000,
        "Apache-2.0",
        crop=0.8975,
        **_TIMM,
        accuracy=_top(80.43, 95.31),
    ),
    "timm/inception_resnet_v2.tf_ens_adv_in1k": Weights(
        "hub:timm/inception_resnet_v2.tf_ens_adv_in1k/model.safetensors",
        None,
        *_V2,
        1000,
        "Apache-2.0",
        crop=0.8975,
        **_TIMM,
    ),
    "kentsommer/inception_v4": Weights(
        f"{_KENTSOMMER}inception-v4_weights_tf_dim_ordering_tf_kernels.h5",
        "md5:9fe79d77f793fe874470d84ca6ba4a3b",
        *_V4,
        1001,
        "MIT",
        crop=0.875,
    ),
    "kentsommer/inception_v4_notop": Weights(
        f"{_KENTSOMMER}inception-v4_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:9296b46b5971573064d12e4669110969",
        *_V4,
        None,
        "MIT",
    ),
    "facenet-pytorch/vggface2": Weights(
        f"{_FACENET}20180402-114759-vggface2.pt",
        None,
        *_V1,
        8631,
        "MIT",
        preprocessing="facenet",
        size=160,
        accuracy={"LFW": 99.65},
    ),
    "facenet-pytorch/casia-webface": Weights(
        f"{_FACENET}20180408-102900-casia-webface.pt",
        None,
        *_V1,
        10575,
        "MIT",
        preprocessing="facenet",
        size=160,
        accuracy={"LFW": 99.05},
    ),
}

# A name → its files, the one to prefer first.
_ALIASES: dict[str, tuple[str, ...]] = {
    "imagenet": (
        "keras/inception_resnet_v2_notop",
        "keras/inception_resnet_v2",
        "kentsommer/inception_v4_notop",
        "kentsommer/inception_v4",
        "slim/inception_resnet_v2",
        "slim/inception_v4",
    ),
    "imagenet-ens-adv": ("slim/ens_adv_inception_resnet_v2",),
    "vggface2": ("facenet-pytorch/vggface2",),
    "casia-webface": ("facenet-pytorch/casia-webface",),
}

NAMES = (*_ALIASES, *WEIGHTS)


def files_of(name: str) -> tuple[str, ...]:
    """The full names of the files that a name means, the one to prefer first; InputError for an unknown one."""
    if name not in NAMES:
        longer = [known for known in NAMES if name and known.startswith(name)]
        near = longer or difflib.get_close_matches(name, NAMES, 1, cutoff=0.5)
        raise refuse(
            "weights",
            name,
            f"{f'{near[0]!r} perhaps: ' if near else ''}None, the path of a checkpoint, or "
            f"{', '.join(map(repr, NAMES))}",
        )
    return _ALIASES.get(name, (name,))


def resolve(name: str, model: Mapping[str, Shape], new_head: NewHead = False) -> Weights:
    """The file that a name means for a model of these weights, by `layer/variable`.

    Raises:
        InputError: The name is unknown, or no file of it fits: it says which variant the name needs,
            or how a head that no file has is asked for. Nothing was downloaded.
    """
    files = [WEIGHTS[file] for file in files_of(name)]
    found = identify(model, (ours.TABLE,))
    network = found.network if found else None
    fitting = [file for file in files if network and (file.network, file.variant) == (network.name, network.variant)]
    if not fitting or network not in networks.NETWORKS[fitting[0].network].values():
        raise _needs(name, files, network)
    classes = None if new_head is True else _classes(model)
    aux_head = not new_head and any(key.startswith(f"{names.AUX}_") for key in model)
    having_aux = [file for file in fitting if file.aux_head or not aux_head]
    serving = [file for file in having_aux if classes is None or _serves(file.classes, classes)]
    if not serving:
        raise _another_head(name, fitting, classes, having_aux=bool(having_aux))
    if new_head is True and any(key.startswith(f"{names.AUX}_") for key in model):
        serving.sort(key=lambda file: not file.aux_head)  # all but its last layer is taken
    elif classes is None:
        serving.sort(key=lambda file: file.classes is not None)  # the smaller
    else:
        serving.sort(key=lambda file: file.classes != classes)
    return serving[0]


def _serves(there: int | None, here: int) -> bool:
    """Whether a file's classifier is of use: the same, or one with a background class."""
    return there == here or (there == BACKGROUND and here == BACKGROUND - 1)


def _another_head(name: str, files: list[Weights], classes: int | None, *, having_aux: bool) -> InputError:
    build = f"build the model with weights=None, then load_weights(model, {name!r}, new_head="
    if not having_aux:
        return InputError(f"weights: {name!r} has no auxiliary head; a new one is asked for: {build}'aux')")
    there = sorted({file.classes for file in files if file.classes is not None})
    return InputError(
        f"weights: {name!r} has {' or '.join(map(str, there))} classes, and the model {classes}: "
        f"num_classes={there[0]} keeps the file's; a new classifier is asked for: {build}True)"
    )


def _classes(model: Mapping[str, Shape]) -> int | None:
    kernel = model.get(f"{names.LOGITS}/kernel")
    return kernel[-1] if kernel else None


def _needs(name: str, files: list[Weights], network: Network | None) -> InputError:
    family = [file for file in files if network and file.network == network.name]
    fits = dict.fromkeys(f'create_{file.network}(variant="{file.variant}")' for file in family or files)
    got = f"{network.name} ({network.variant})" if network else "a network of its own tables"
    return InputError(
        f"weights: {name!r} was trained in another network than {got}: it fits {' or '.join(fits)}, "
        "with the variant's own depths"
    )


def fetch(name: str, model: Mapping[str, Shape], new_head: NewHead = False) -> Path:
    """The file that a name means, downloaded into Keras's cache if it is not there, and verified."""
    weights = resolve(name, model, new_head)
    if weights.location.startswith("hub:"):
        return _from_hub(weights.location)
    return download.fetch(weights.location, CACHE, weights.hash)


def _from_hub(location: str) -> Path:
    """The hub's library keeps its own cache, and verifies what it fetches."""
    repository, _, file = location.removeprefix("hub:").rpartition("/")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise InputError(
            f"weights: {repository} needs huggingface_hub: pip install 'inception-resnet-keras[weights]'"
        ) from None
    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:  # what network stacks raise has no common class
        page = f"https://huggingface.co/{repository}/resolve/main/{file}"
        raise InputError(
            f"weights: {repository} could not be fetched ({error}). Fetch {page} and give the file's path as weights=, "
            f"or fill the hub's own cache: hf download {repository} {file}"
        ) from error
