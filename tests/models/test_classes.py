from collections.abc import Iterator

import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.models import classes
from inception_resnet_keras.models.classes import Classes, columns, places

IDS = [f"n{3 * number:08d}" for number in range(1000)]
NAMES = [f"class_{number}" for number in range(1000)]
NAMES[134] = NAMES[517] = "crane"
NAMES[2] = "great_white_shark"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(classes, "class_index", lambda: list(zip(IDS, NAMES, strict=True)))
    return iter(())


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise InputError("imagenet_class_index.json could not be downloaded")

    monkeypatch.setattr(classes, "class_index", missing)


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    ("folder", "number"),
    [
        ("n00000006", 2),
        ("n00000006_shark", 2),
        ("great_white_shark", 2),
        ("Great White Shark", 2),
        ("great white shark, white shark, man-eater", 2),
        ("class_999", 999),
        ("crane (n00001551)", 517),
    ],
)
def test_imagenets_folders_by_their_many_names(folder: str, number: int) -> None:
    assert places([folder], classes.imagenet([folder]), source="x", model="m").tolist() == [number]


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("folder", ["crane", "n99999999", "0", "tabby"])
def test_what_is_no_class_or_two_is_refused_with_the_lists(folder: str) -> None:
    with pytest.raises(InputError, match=rf"data: has 1 of 2 classes that v4 lacks: '{folder}'; its 1000 .*'class_0'"):
        places(["class_3", folder], classes.imagenet([]), source="data", model="v4")


@pytest.mark.usefixtures("index")
def test_two_folders_of_one_class_are_refused() -> None:
    with pytest.raises(InputError, match="'n00000006', 'great_white_shark' are the same class of v4"):
        places(["n00000006", "great_white_shark"], classes.imagenet([]), source="data", model="v4")


@pytest.mark.usefixtures("no_index")
def test_a_thousand_ids_need_no_index() -> None:
    found = classes.imagenet(IDS[::-1])
    assert places(IDS[::-1], found, source="x", model="m").tolist() == list(range(999, -1, -1))
    with pytest.raises(InputError, match="could not be downloaded"):
        classes.imagenet(IDS[:10])


def test_a_models_own_names_are_found_as_they_are() -> None:
    found = Classes(["cat", "Dog", "n00000006"])
    assert places(["Dog", "cat"], found, source="x", model="m").tolist() == [1, 0]
    with pytest.raises(InputError, match=r"has 1 of 1 class that run lacks: 'dog'; its 3 classes are 'cat', 'Dog'"):
        places(["dog"], found, source="x", model="run")


def test_models_of_one_average_are_brought_into_one_order() -> None:
    assert columns(Classes(["a", "b", "c"]), Classes(["c", "a", "b"]), model="2", first_model="1").tolist() == [1, 2, 0]
    with pytest.raises(InputError, match=r"first has 1 that second lacks: 'b'; second has 1 that first lacks: 'd'"):
        columns(Classes(["a", "b"]), Classes(["a", "d"]), model="second", first_model="first")
    with pytest.raises(InputError, match=r"first has 1 that second lacks: 'b'; second has 0"):
        columns(Classes(["a", "b"]), Classes(["a"]), model="second", first_model="first")


@pytest.mark.usefixtures("index")
def test_a_run_on_imagenets_ids_is_averaged_with_released_weights() -> None:
    run, released = Classes(IDS[::-1]), classes.imagenet([])
    assert columns(released, run, model="run", first_model="v4").tolist() == list(range(999, -1, -1))
    assert columns(run, released, model="v4", first_model="run").tolist() == list(range(999, -1, -1))
