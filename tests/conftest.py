"""What every room's tests share: a quiet engine, and each whole network built once."""

import gc
import os
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from .blank import use_blank_charts, use_charts
from .whole import WholeNetwork

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Workers share the cores: engines that start a thread per core would wait for one another, for a fifth of their time.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, str(max(1, (os.cpu_count() or 1) // workers)))

# A machine that others load makes single examples slow: that is no fault of the code.
settings.register_profile("suite", deadline=None, max_examples=50)

settings.load_profile("suite")


def pytest_collection_finish() -> None:
    """What was imported stays: each search for garbage would go through it again, for a fifth of the suite's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept between runs of OpenVINO is not put among the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def blank_charts() -> Iterator[Any]:
    """Charts are blank images, and yields matplotlib's own `savefig`. Tests that look at charts ask for `charts`."""
    if not find_spec("matplotlib"):
        yield None
        return
    from matplotlib.figure import Figure

    drawn = Figure.savefig
    use_blank_charts()
    yield drawn
    use_charts()


@pytest.fixture(scope="module")
def charts(blank_charts: Any) -> Iterator[None]:
    """Within the module, charts are drawn."""
    use_charts()
    yield
    use_blank_charts()


@pytest.fixture(scope="session")
def whole() -> Any:
    """`whole(WHOLE[n])` is that network as its factory builds it, for images of any size."""
    from inception_resnet_keras.networks import factories

    @cache
    def build(case: WholeNetwork) -> Any:
        factory = getattr(factories, f"create_{case.network}")
        return factory(variant=case.variant, depths=case.depths, input_shape=(None, None, 3))

    return build


@pytest.fixture
def channels_first() -> Iterator[None]:
    import keras

    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of digits, by the classes of `run`'s model."""
    from .exporting import write_pictures

    return write_pictures(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model.keras of a small network."""
    from .exporting import write_run

    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def exported(run: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """That model in every format: {format: (path, its comparison)}."""
    from .exporting import export_all

    return export_all(run, digits, tmp_path_factory.mktemp("exported"))
