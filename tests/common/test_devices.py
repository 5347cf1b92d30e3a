from collections.abc import Callable
from pathlib import Path

import pytest

from inception_resnet_keras.common.devices import DRIVER, LIBRARIES, has_gpu, missing_gpu, why_unseen


def loads(*missing: str) -> Callable[[str], None]:
    def load(name: str) -> None:
        if Path(name).name in missing:
            raise OSError(f"{name}: cannot open shared object file")

    return load


def test_a_gpu_is_there_by_the_drivers_files_or_what_nvidia_smi_lists(tmp_path: Path) -> None:
    sign = tmp_path / "nvidia0"
    assert not has_gpu([sign], lambda: "")
    assert has_gpu([sign], lambda: "GPU 0: NVIDIA H100 (UUID: …)")
    sign.touch()
    assert has_gpu([sign], lambda: "")


def test_the_cpu_package_is_told_of_first() -> None:
    said = why_unseen(built_with_cuda=False, environment={}, load=loads(*LIBRARIES), folders=[])
    assert said is not None
    assert "tensorflow-cpu is installed" in said
    assert "inception-resnet-keras[gpu]" in said


@pytest.mark.parametrize("name", list(LIBRARIES))
def test_a_library_that_does_not_load_is_named_with_what_brings_it(name: str) -> None:
    said = why_unseen(built_with_cuda=True, environment={}, load=loads(name), folders=[])
    assert said is not None
    assert f"{name} ({name}: cannot open shared object file)" in said
    assert LIBRARIES[name] in said
    assert "[gpu]" in said
    assert not any(other in said for other in LIBRARIES if other != name)


def test_the_drivers_library_is_not_looked_for_in_packages() -> None:
    said = why_unseen(built_with_cuda=True, environment={}, load=loads(DRIVER), folders=[])
    assert said is not None
    assert DRIVER in said
    assert "driver" in said


def test_a_library_in_the_extras_packages_is_found_where_it_lies(tmp_path: Path) -> None:
    """By its bare name it never loads: TensorFlow finds it by its own path, and so is it looked for here."""
    name = "libcudnn.so.9"
    place = tmp_path / "nvidia" / "cudnn" / "lib"
    place.mkdir(parents=True)
    (place / name).touch()
    tried: list[str] = []

    def load(candidate: str) -> None:
        tried.append(candidate)
        if candidate == name:
            raise OSError("not by its name")

    said = why_unseen(built_with_cuda=True, environment={}, load=load, folders=[tmp_path])
    assert str(place / name) in tried
    assert said is not None
    assert "all of CUDA's libraries load" in said


@pytest.mark.parametrize("hidden", ["", "-1", " "])
def test_nothing_is_said_where_gpus_were_hidden_on_purpose(hidden: str) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": hidden}
    assert why_unseen(built_with_cuda=False, environment=environment, load=loads(*LIBRARIES), folders=[]) is None


def test_the_real_loader_tells_what_it_lacks() -> None:
    """Of this machine, with the real dlopen: whatever is missing here is named, and nothing raises."""
    said = why_unseen(built_with_cuda=True, environment={}, folders=[])
    assert said is not None
    assert "does not load" in said or "libraries load" in said


def test_a_machine_without_a_gpu_hears_nothing() -> None:
    if has_gpu():
        pytest.skip("this machine has one")
    assert missing_gpu() is None


def test_what_is_called_on_a_gpu_alone_is_in_tensorflow() -> None:
    """No test here runs it: an upgrade that takes one away is noticed all the same."""
    import tensorflow as tf

    experimental = tf.config.experimental
    for name in ("set_memory_growth", "reset_memory_stats", "get_memory_info", "get_device_details"):
        assert callable(getattr(experimental, name))
    before = experimental.tensor_float_32_execution_enabled()
    experimental.enable_tensor_float_32_execution(not before)
    assert experimental.tensor_float_32_execution_enabled() != before
    experimental.enable_tensor_float_32_execution(before)
    with pytest.raises(ValueError, match="GPU:0"):
        experimental.get_memory_info("GPU:0")
