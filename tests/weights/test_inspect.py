"""The call that `inspect` prints loads the file, whatever the file is of; where no call does, none is printed."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import inception_resnet_keras as irk
from inception_resnet_keras import networks
from inception_resnet_keras.networks import names
from inception_resnet_keras.networks.recognise import USUAL_INPUT, NetworkDescription
from inception_resnet_keras.networks.trace import trace, weight_shapes
from inception_resnet_keras.weights.identify import identify
from inception_resnet_keras.weights.inspect import inspect_checkpoint
from inception_resnet_keras.weights.load import plan, weights_by_name
from inception_resnet_keras.weights.slots import CLASSES, slots
from inception_resnet_keras.weights.sources import OTHERS, NameTable

from .test_load import checkpoint_of

Shapes = dict[str, tuple[int, ...]]
FIRST = f"{names.inside(names.STEM, 'conv', 1)}/kernel"
LAST_AUX = f"{names.inside(names.AUX, 'conv', 2)}/kernel"


def file_of(
    table: NameTable,
    kind: tuple[str, str],
    *,
    channels: int,
    classes: int | None,
    embedding: int,
    aux: Mapping[str, Any],
) -> Shapes:
    """The shapes of a source's file, by the source's names and in its layout."""
    network, shapes = networks.find(*kind), {}
    for slot in slots(network):
        layer = table.layers[kind](slot)
        heads = {"": True, "embedding": bool(embedding), "logits": classes is not None, "aux": bool(aux)}
        if layer is None or not heads[slot.head]:
            continue
        for role, own in slot.shapes.items():
            wide = (aux["classes"] if slot.head == "aux" else classes) or 0
            shape = tuple(wide if side == CLASSES else side for side in own)
            if slot.key(role) == FIRST:
                shape = (*shape[:2], channels, shape[3])
            if slot.key(role) == LAST_AUX:
                shape = (*aux["kernel"], *shape[2:])
            if embedding and slot.head == "embedding":
                shape = (*shape[:-1], embedding)
            if network.embedding and slot.head == "logits" and role == "kernel":
                shape = (embedding or network.embedding, shape[-1])
            first = (*shape[:-3:-1], *shape[:-2]) if table.channels_first and len(shape) > 1 else shape
            shapes[table.tensor(layer, slot, role)] = first
        if table.gamma and slot.normalised:
            shapes[table.tensor(layer, slot, "gamma")] = slot.shapes["beta"] if not embedding else shape
    return shapes


def shapes_of_call(found: NetworkDescription) -> Shapes:
    """The weights of the model that the printed call builds, from the tables, without building it."""
    options = found.factory_options()
    height, width, channels = options.get("input_shape", USUAL_INPUT)
    top, classes = options.get("include_top", True), options.get("num_classes")
    head: dict[str, Any] = networks.head(found.network, classes) if top else {"classes": None}
    aux = options.get("aux_head", False)
    shapes = weight_shapes(trace(found.network, (height, width), channels=channels, aux_head=aux, **head))
    if aux and not top:  # the auxiliary classifier of a model without another
        shapes |= {
            key: (*shape[:-1], classes or 1000) for key, shape in shapes.items() if key.startswith("aux_logits/")
        }
    return shapes


KINDS = [(table, kind) for table in OTHERS for kind in table.layers]


@settings(max_examples=30)
@given(st.data())
def test_the_call_of_any_projects_file_accounts_for_the_file(data: st.DataObject) -> None:
    table, kind = data.draw(st.sampled_from(KINDS))
    network = networks.find(*kind)
    embedding = data.draw(st.sampled_from([0, 64, 128, 512])) if network.embedding else 0
    classes = data.draw(st.sampled_from([None, 1, 7, 1000, 1001]))
    has_aux = bool(network.aux) and any(slot.head == "aux" and table.layers[kind](slot) for slot in slots(network))
    aux: dict[str, Any] = {}
    if has_aux and data.draw(st.booleans()):
        kernel = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
        aux = {"kernel": kernel, "classes": data.draw(st.sampled_from([classes or 1000, 5]))}
    channels = data.draw(st.integers(1, 5))
    shapes = file_of(table, kind, channels=channels, classes=classes, embedding=embedding, aux=aux)
    own = data.draw(st.sampled_from(["", "mine/kernel", "head.fc.weight", "dense/kernel"])) if classes is None else ""
    if own:
        shapes[own] = (16, 3)
    found = identify(shapes)
    assert found is not None
    assert found.score == 1
    assert found.description.channels == channels
    report = plan(shapes_of_call(found.description), checkpoint_of(shapes)).report
    assert not report.fresh
    assert report.loaded == len(shapes_of_call(found.description))


@settings(max_examples=3, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.data())
def test_the_call_of_a_file_of_ours_gives_every_weight(data: st.DataObject) -> None:
    name, variant = data.draw(
        st.sampled_from([(name, variant) for name in networks.NETWORKS for variant in networks.NETWORKS[name]])
    )
    network = networks.find(name, variant)
    options: dict[str, Any] = {
        "depths": data.draw(st.tuples(*[st.integers(1, 2)] * 3)),
        "input_shape": (data.draw(st.integers(107, 140)), 120, data.draw(st.integers(1, 4))),
        "aux_head": bool(network.aux) and data.draw(st.booleans()),
        "include_top": data.draw(st.booleans()),
        "num_classes": data.draw(st.sampled_from([None, 3, 1000])),
    }
    if name != "inception_v4":
        options["scale"] = data.draw(st.sampled_from([True, False, 0.3]))
    model = getattr(irk, f"create_{name}")(variant=variant, **options)
    ending = data.draw(st.sampled_from([".keras", ".h5", ".weights.h5"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{ending}")
        model.save_weights(path) if ending == ".weights.h5" else model.save(path)
        loaded = eval(f"irk.{inspect_checkpoint(path).call}", {"irk": irk})
    found = weights_by_name(loaded)
    for key, weight in weights_by_name(model).items():
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(found[key]), keras.ops.convert_to_numpy(weight))
    if ending != ".weights.h5":
        image = np.random.default_rng(0).uniform(-1, 1, (1, *options["input_shape"])).astype(np.float32)
        for one, other in zip(
            *(keras.tree.flatten(each.predict(image, verbose=0)) for each in (loaded, model)), strict=True
        ):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_json_holds_the_arguments_of_the_call(tmp_path: Path) -> None:
    model = irk.create_inception_resnet_v1(3, 0.3, depths=(1, 1, 1), input_shape=(96, 96, 3))
    model.save(tmp_path / "a.keras")
    command = [sys.executable, "-m", "inception_resnet_keras", "inspect", str(tmp_path / "a.keras"), "--json"]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert (said["network"], said["variant"], said["depths"], said["scales"]) == (
        *("inception_resnet_v1", "paper", [1, 1, 1]),
        [0.3, 0.3, 0.3],
    )
    loaded = getattr(irk, said["factory"])(**said["arguments"])
    assert all(np.array_equal(one, other) for one, other in zip(loaded.get_weights(), model.get_weights(), strict=True))


def test_a_part_of_a_network_has_no_call(tmp_path: Path) -> None:
    model = irk.create_inception_v4(include_top=False, depths=(1, 1, 1), input_shape=(139, 139, 3))
    cut = keras.Model(model.input, irk.endpoints(model)["b01"])
    cut.save(tmp_path / "a.keras")
    found = inspect_checkpoint(tmp_path / "a.keras")
    assert found.call is None
    assert found.as_json()["arguments"] is None
    assert "no call loads it" in str(found)
