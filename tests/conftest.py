"""What every room's tests share: quiet engines, each whole network built once, and who runs what."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from .whole import WholeNetwork

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# What `exported` is made for: one process does it.
OF_EXPORTS = ("export/test_targets.py", "export/test_refusals.py", "inference/test_runtimes.py")
# The files that take longest, the longest first, so that no process is left with one when the other has ended.
LONGEST = (
    "bench/test_run.py",
    *OF_EXPORTS,
    "evaluation/test_released.py",
    "weights/test_parity.py",
    "training/test_kills.py",
    "training/test_runs.py",
    "data/test_pipeline.py",
    "training/test_workers.py",
    "test_examples.py",
    "inference/test_folding.py",
    "evaluation/test_evaluate.py",
    "evaluation/test_explain.py",
    "training/test_finetuning.py",
    "cli/test_convert.py",
    "training/test_steps.py",
    "test_build.py",
    "weights/test_convert_file.py",
    "test_build_speed.py",
    "weights/test_load.py",
    "test_whole_networks.py",
)

# A machine that others load makes single examples slow: that is no fault of the code.
settings.register_profile("suite", deadline=None, max_examples=50)

settings.load_profile("suite")


class ByFile(LoadScopeScheduling):
    """Of several processes each takes a file at a time: what a file's tests share is made once."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "exports" if file.endswith(OF_EXPORTS) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    config.option.loadscopereorder = False  # not by their numbers of tests
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {file: place for place, file in enumerate(LONGEST)}
    here = Path(__file__).parent
    items.sort(key=lambda item: order.get(Path(os.path.relpath(item.path, here)).as_posix(), len(order)))


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept between runs of OpenVINO is not put among the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


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
