"""What a run and a report say of the machine."""

import platform
from importlib.metadata import version
from pathlib import Path

from inception_resnet_keras.common import machine


def test_the_processor_is_named(tmp_path: Path) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text("processor\t: 0\nmodel name\t: Some CPU   @ 2 GHz\nflags\t: avx\n")
    assert machine.processor_name(listed) == "Some CPU @ 2 GHz"


def test_the_environment_has_processor_gpus_and_versions() -> None:
    found = machine.environment()
    assert found["machine"]["platform"] == platform.platform()
    assert found["machine"]["CPU"].startswith(machine.processor_name())
    assert found["machine"]["GPU"] == (", ".join(machine.gpu_names()) or "none used")
    assert found["versions"]["numpy"] == version("numpy")


def test_a_benchmark_knows_what_speed_depends_on() -> None:
    found = machine.benchmarked_machine()
    assert found["cores"] >= 1
    assert found["cpu"]
    assert found["versions"]["keras"].startswith("3.")
    assert any(name.startswith("tensorflow") for name in found["versions"])
    assert found["date"].endswith("+00:00")
    assert isinstance(machine.nvidia_gpus(), list)
