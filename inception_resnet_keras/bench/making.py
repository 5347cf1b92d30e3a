"""What contenders need before they start: one set of weights a network, what it says in float32, and exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np

from .contenders import APART, APPLICATIONS, EXPORTED, TIMM, Contender
from .engines import CLASSES

CHECKED = 8  # pictures by which outputs are checked

CALIBRATED = 64  # pictures that an int8 export sees

MODEL, WEIGHTS, CHECK, PICTURES = "model.keras", "weights", "check.npz", "pictures"

SPREAD = 3.0  # of the logits' standard deviation

ANY = 1e9  # the export's own bounds are of trained networks; here `checks` decides


def make(job: dict[str, Any]) -> dict[str, Any]:
    """Runs one of the jobs below, by name; its answer is what it wrote."""
    jobs = {"pictures": _pictures, "network": _network, "form": _formed, "export": _export}
    return jobs[job["make"]](job)


def _pictures(job: dict[str, Any]) -> dict[str, Any]:
    """JPEGs cut from two photographs, to check by and to calibrate with."""
    from ..data.benchmark import write_pictures

    folder = Path(job["folder"], PICTURES)
    write_pictures(folder, CHECKED + CALIBRATED)
    return {"pictures": str(folder)}


def _network(job: dict[str, Any]) -> dict[str, Any]:
    """A network with weights from one seed and settled statistics, and its float32 outputs on the CPU."""
    what, size, folder = job["what"], job["size"], Path(job["folder"])
    folder.mkdir(exist_ok=True)
    images = _read(Path(job["pictures"]), size)
    if what.startswith(TIMM):
        files, outputs = _torch_network(what.removeprefix(TIMM), images, folder)
    else:
        files, outputs = _keras_network(what, size, images, folder)
    np.savez(folder / CHECK, images=images, outputs=outputs)
    return {**files, "check": str(folder / CHECK)}


def _keras_network(what: str, size: int, images: np.ndarray, folder: Path) -> tuple[dict[str, str], np.ndarray]:
    import keras

    from .. import networks
    from ..models.model_file import Card, load_model, save_model
    from ..networks.build import build

    keras.utils.set_random_seed(0)
    if what == APPLICATIONS:
        model = keras.applications.InceptionResNetV2(weights=None, input_shape=(size, size, 3), classes=CLASSES)
        images = images / 127.5 - 1
        settle(model, images)
        file = folder / f"{WEIGHTS}.weights.h5"
        model.save_weights(file)
        return {"weights": str(file)}, _float32(model, images)
    name, _, variant = what.partition(":")
    if name not in networks.NETWORKS:  # a file of the user's
        model, _ = load_model(Path(what))
        return {"model": what}, _float32(model, images)
    network = networks.find(name, variant)
    model = build(network, input_shape=(size, size, 3), include_preprocessing=True, dtype="float32")
    settle(model, images)
    file = folder / MODEL
    classes = [str(number) for number in range(model.output_shape[-1])]
    save_model(model, file, Card(name, variant, classes, (size, size)))
    return {"model": str(file)}, _float32(model, images)


def _formed(job: dict[str, Any]) -> dict[str, Any]:
    """A network's file with `optimize_for_inference` done, in one of its two forms."""
    from ..deploy.folding import optimize_for_inference
    from ..models.model_file import load_model, save_model

    model, card = load_model(Path(job["model"]))
    file = Path(job["folder"], f"{job['form']}_{MODEL}")
    save_model(optimize_for_inference(model, join_siblings=job["form"] != APART), file, card)
    return {"model": str(file)}


def _export(job: dict[str, Any]) -> dict[str, Any]:
    """A network's file exported as a contender needs it."""
    from ..deploy.export import export_model
    from ..deploy.formats import FORMATS
    from ..models.model_file import Precision

    contender = Contender(**job["contender"])
    target = FORMATS[EXPORTED[contender.engine]]
    name = "_".join(filter(None, (contender.engine, contender.precision, contender.form)))
    file = Path(job["folder"], f"{name}{target.suffix}")
    export_model(
        job["model"],
        file,
        target.name,
        precision=cast(Precision, contender.precision),
        optimize=not contender.form,  # what has a form is optimized already, and its siblings stay as they are
        calibrate=job["pictures"] if contender.precision == "int8" else None,
        max_difference=ANY,
        min_agreement=0.0,
    )
    return {"model": str(file)}


def settle(model: Any, images: np.ndarray) -> None:
    """Gives each batch norm the statistics of what reaches it.

    At their start they normalise nothing, and a network of 244 convolutions then computes with
    numbers that no trained one does: too small for half precision and int8, or denormal and slow.
    """
    import keras

    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momentums = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    model(images, training=True)
    for layer, momentum in zip(layers, momentums, strict=True):
        layer.momentum = momentum
    _sharpen(model, images)


def _sharpen(model: Any, images: np.ndarray) -> None:
    """Makes a classifier as sure as a trained one: where each of 1,000 classes has a thousandth, 8 bits tell none."""
    head = model.layers[-1]
    if getattr(head, "activation", None) is None or head.activation.__name__ != "softmax":
        return
    logs = np.log(np.maximum(_float32(model, images), 1e-30))
    weights = next(layer for layer in reversed(model.layers) if layer.weights)
    weights.set_weights([SPREAD / logs.std() * weight for weight in weights.get_weights()])


def _float32(model: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(model(images, training=False), np.float32)


def _torch_network(name: str, images: np.ndarray, folder: Path) -> tuple[dict[str, str], np.ndarray]:
    import timm
    import torch

    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=CLASSES)
    pixels = torch.from_numpy(np.ascontiguousarray(images / 127.5 - 1, np.float32)).permute(0, 3, 1, 2)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momentums = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # PyTorch's is the share of the new
    with torch.no_grad():
        network.train()(pixels)
        for norm, momentum in zip(norms, momentums, strict=True):
            norm.momentum = momentum
        outputs = network.eval()(pixels).softmax(dim=1).numpy()
    file = folder / f"{WEIGHTS}.pt"
    torch.save(network.state_dict(), file)
    return {"weights": str(file)}, outputs


def _read(folder: Path, size: int) -> np.ndarray:
    """The first pictures of the folder as float32 pixels of 0-255, (n, size, size, 3)."""
    from ..data.images import read_image

    files = sorted(folder.glob("*/*.jpg"))
    step = len(files) // CHECKED
    return np.stack([read_image(file, (size, size)) for file in files[::step][:CHECKED]]).astype(np.float32)
