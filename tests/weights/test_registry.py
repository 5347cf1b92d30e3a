"""Registered names: what they mean for which model, and how files are fetched, without a network."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import keras
import pytest

from inception_resnet_keras import create_inception_v4, networks
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.networks import edits
from inception_resnet_keras.networks.build import KerasOperations
from inception_resnet_keras.networks.rows import Network
from inception_resnet_keras.weights import download, registry
from inception_resnet_keras.weights.slots import CLASSES, slots


def model_of(network: Network, classes: int | None = 1000, *, aux_head: bool = False) -> dict[str, tuple[int, ...]]:
    heads = {""} | ({"logits"} if classes else set()) | ({"aux"} if aux_head else set())
    heads |= {"embedding"} if network.embedding else set()
    return {
        slot.key(role): tuple(classes or 0 if side == CLASSES else side for side in shape)
        for slot in slots(network)
        if slot.head in heads
        for role, shape in slot.shapes.items()
    }


V4, V2 = networks.find("inception_v4", "slim"), networks.find("inception_resnet_v2", "slim")
V1 = networks.find("inception_resnet_v1", "facenet")


@pytest.mark.parametrize(
    ("name", "network", "classes", "aux_head", "file"),
    [
        ("imagenet", V2, 1000, False, "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5"),
        ("imagenet", V2, None, False, "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        ("imagenet", V2, 1001, False, "inception_resnet_v2_2016_08_30.tar.gz"),
        ("imagenet", V2, 1000, True, "inception_resnet_v2_2016_08_30.tar.gz"),
        ("imagenet", V4, 1000, False, "inception-v4_weights_tf_dim_ordering_tf_kernels.h5"),
        ("imagenet", V4, 1001, False, "inception-v4_weights_tf_dim_ordering_tf_kernels.h5"),
        ("imagenet", V4, None, False, "inception-v4_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        ("imagenet", V4, 1001, True, "inception_v4_2016_09_09.tar.gz"),
        ("imagenet-ens-adv", V2, 1000, False, "ens_adv_inception_resnet_v2_2017_08_18.tar.gz"),
        ("vggface2", V1, None, False, "20180402-114759-vggface2.pt"),
        ("casia-webface", V1, 10575, False, "20180408-102900-casia-webface.pt"),
        ("timm/inception_v4.tf_in1k", V4, 1000, False, "model.safetensors"),
    ],
)
def test_a_name_means_the_file_that_fits(
    name: str, network: Network, classes: int | None, aux_head: bool, file: str
) -> None:
    found = registry.resolve(name, model_of(network, classes, aux_head=aux_head))
    assert found.location.endswith(f"/{file}")
    assert (found.network, found.variant) == (network.name, network.variant)


@pytest.mark.parametrize(
    ("name", "network", "says"),
    [
        (
            "imagenet",
            networks.find("inception_v4"),
            r"\(paper\): it was trained with create_inception_v4\(variant=\"slim\"\)",
        ),
        ("imagenet", V1, "it was trained with create_inception_resnet_v2"),
        ("vggface2", V2, r"it was trained with create_inception_resnet_v1\(variant=\"facenet\"\)"),
        ("imagenet-ens-adv", V4, r"it was trained with create_inception_resnet_v2\(variant=\"slim\"\)"),
        (
            "imagenet",
            edits.with_depths(V2, (5, 10, 5)),
            r"for a network with \(10, 20, 10\) blocks, and the model has \(5, 10, 5\): leave depths out",
        ),
        ("imagnet", V2, "it takes 'imagenet' perhaps: None, the path of a checkpoint, or 'imagenet'"),
    ],
)
def test_a_name_that_does_not_fit_says_which_variant_it_needs(name: str, network: Network, says: str) -> None:
    with pytest.raises(InputError, match=says):
        registry.resolve(name, model_of(network))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"depths": (1, 1, 1)}, r"\(4, 7, 3\) blocks, and the model has \(1, 1, 1\): leave depths out"),
        (
            {"depths": (1, 1, 1), "output_stride": 8, "include_top": False},
            r"\(4, 7\) blocks, and the model has \(1, 1\)",
        ),
        ({"variant": "paper"}, 'it was trained with create_inception_v4\\(variant="slim"\\)'),
        ({"num_classes": 10}, "has 1001 classes, and the model 10"),
    ],
)
def test_a_factory_refuses_a_name_before_it_builds(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], says: str
) -> None:
    def built(*_: Any) -> None:
        raise AssertionError("layers are built")

    monkeypatch.setattr(KerasOperations, "trunk", built)
    for data_format in ("channels_last", "channels_first"):
        monkeypatch.setattr(keras.config, "image_data_format", lambda data_format=data_format: data_format)
        with pytest.raises(InputError, match=says):
            create_inception_v4(**{"variant": "slim", "weights": "imagenet", **options})
    with pytest.raises(AssertionError, match="layers are built"):
        create_inception_v4(variant="slim", weights="imagenet")


@pytest.mark.parametrize(
    ("classes", "aux_head", "new_head", "file"),
    [
        (10, False, True, "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        (10, True, True, "inception_resnet_v2_2016_08_30.tar.gz"),
        (1000, True, "aux", "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5"),
    ],
)
def test_a_new_head_takes_the_file_that_has_the_rest(classes: int, aux_head: bool, new_head: Any, file: str) -> None:
    found = registry.resolve("imagenet", model_of(V2, classes, aux_head=aux_head), new_head)
    assert found.location.endswith(f"/{file}")


@pytest.mark.parametrize(
    ("name", "model", "says"),
    [
        (
            "imagenet",
            model_of(V2, 10),
            r"has 1000 or 1001 classes, and the model 10: num_classes=1000 .*new_head=True",
        ),
        ("vggface2", model_of(V1, 10), r"has 8631 classes, and the model 10.*weights=None.*'vggface2', new_head=True"),
        ("timm/inception_v4.tf_in1k", model_of(V4, aux_head=True), "has no auxiliary head; .*new_head='aux'"),
    ],
)
def test_another_head_is_refused_before_any_download(
    name: str, model: dict[str, tuple[int, ...]], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("it was downloaded"))
    with pytest.raises(InputError, match=says):
        registry.fetch(name, model)


def test_every_entry_is_complete() -> None:
    for name, weights in registry.WEIGHTS.items():
        assert weights.variant in networks.NETWORKS[weights.network], name
        assert weights.preprocessing == networks.find(weights.network, weights.variant).preprocessing.name
        assert weights.licence in ("Apache-2.0", "MIT")
        assert weights.location.startswith(("https://", "hub:timm/"))
        assert (weights.label_offset is None) == (weights.classes is None or weights.preprocessing == "facenet")
        assert weights.hash is None or len(weights.hash) == len("md5:") + 32


ENTRY = """
[files."a/b"]
location = "https://example.org/b.h5"
network = "inception_v4"
variant = "slim"
licence = "MIT"
classes = 10
crop = 0.875
"""


def test_a_table_is_read_with_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(f'[aliases]\nb = ["a/b"]\n{ENTRY}')
    files, aliases = registry.read_table(tmp_path / "a.toml")
    wanted = registry.Weights("https://example.org/b.h5", "inception_v4", "slim", "MIT", classes=10, crop=0.875)
    assert files == {"a/b": wanted}
    assert aliases == {"b": ("a/b",)}
    assert (wanted.hash, wanted.preprocessing, wanted.size, wanted.aux_head) == (None, "inception", 299, False)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (ENTRY.replace('licence = "MIT"', ""), "file 'a/b': licence is missing, unknown or out of range"),
        (ENTRY.replace("classes = 10", 'classes = "10"'), "classes is missing"),
        (ENTRY.replace("crop", "corp"), "corp is missing"),
        (ENTRY.replace("https", "ftp"), "location is missing"),
        (ENTRY + 'hash = "md5:12"', "hash is missing"),
        (ENTRY.replace("slim", "slimm"), "network, variant is missing"),
        (ENTRY + "size = 160", "preprocessing, size is missing"),
        (ENTRY + 'aliases = ""', "aliases is missing"),
        (ENTRY + '[aliases]\nc = ["a/c"]', "alias 'c' means .'a/c'.; it takes names of files"),
        (ENTRY + "[other]", "has other; it takes files and aliases"),
        ("files", "cannot be read"),
    ],
)
def test_a_table_of_another_form_is_refused(tmp_path: Path, table: str, says: str) -> None:
    (tmp_path / "a.toml").write_text(table)
    with pytest.raises(InputError, match=rf"a\.toml: .*{says}"):
        registry.read_table(tmp_path / "a.toml")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras"


def test_a_file_is_fetched_once_and_verified(home: Path, tmp_path: Path, capsys: Any) -> None:
    """Through `keras.utils.get_file`, from a file: URL."""
    source = tmp_path / "weights.bin"
    source.write_bytes(b"numbers")
    digest = f"md5:{hashlib.md5(b'numbers').hexdigest()}"
    path = download.fetch(source.as_uri(), "models/ours", digest)
    assert path == home / "models/ours/weights.bin"
    assert path.read_bytes() == b"numbers"
    source.unlink()
    assert download.fetch(source.as_uri(), "models/ours", digest) == path  # no second download
    path.write_bytes(b"other")
    with pytest.raises(InputError, match=r"has the md5 .* is expected: delete it to download it again"):
        download.fetch(source.as_uri(), "models/ours", digest)


def test_a_download_with_another_hash_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"numbers")
    with pytest.raises(InputError, match=r"could not be downloaded"):
        download.fetch((tmp_path / "weights.bin").as_uri(), "models/ours", f"md5:{'0' * 32}")
    assert not (home / "models/ours/weights.bin").exists()


def test_a_file_without_a_published_hash_keeps_the_one_it_came_with(home: Path, tmp_path: Path) -> None:
    source = tmp_path / "weights.bin"
    source.write_bytes(b"numbers")
    path = download.fetch(source.as_uri(), "models/ours", None)
    record = path.with_name("weights.bin.sha256")
    assert record.read_text().split() == [hashlib.sha256(b"numbers").hexdigest(), "weights.bin"]
    assert download.fetch(source.as_uri(), "models/ours", None) == path
    path.write_bytes(b"other")
    with pytest.raises(InputError, match=r"delete it, and weights\.bin\.sha256 beside it, to download it again"):
        download.fetch(source.as_uri(), "models/ours", None)


def test_offline_the_error_says_what_to_fetch_to_where(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: Any) -> str:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(keras.utils, "get_file", offline)
    with pytest.raises(InputError) as refused:
        registry.fetch("imagenet", model_of(V2))
    url = registry.WEIGHTS["keras/inception_resnet_v2"].location
    path = home / registry.CACHE / url.rpartition("/")[2]
    assert f"Network is unreachable). Fetch {url} and put it at {path}" in str(refused.value)


def test_the_hubs_files_need_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*_: Any) -> str:
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(
        InputError, match=r"Fetch https://huggingface\.co/timm/inception_v4\.tf_in1k/resolve/main/model\.saf"
    ):
        registry.fetch("timm/inception_v4.tf_in1k", model_of(V4))
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'inception-resnet-keras\[weights\]'"):
        registry.fetch("timm/inception_v4.tf_in1k", model_of(V4))
