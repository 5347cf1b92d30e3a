"""TensorFlow's checkpoints, written by TensorFlow and read without it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.weights.readers import open_checkpoint
from inception_resnet_keras.weights.readers.tf_tables import _signed_key, crc32c

from .. import synthetic

RNG = np.random.default_rng(0)
VALUES: dict[str, np.ndarray] = {
    "kernel": RNG.normal(size=(3, 3, 50, 70)).astype(np.float32),  # a block of its own in a V1 file
    "größe/bias": RNG.normal(size=5).astype(np.float32),
    "double": RNG.normal(size=(2, 3)),
    "half": RNG.normal(size=4).astype(np.float16),
    "complex": RNG.normal(size=3).astype(np.complex64),
    "global_step": np.array(-(2**40), np.int64),
    "int32": np.array([-7, 9], np.int32),
    "int16": np.array([-300, 4], np.int16),
    "int8": np.array([-3, 4], np.int8),
    "uint8": np.arange(250, dtype=np.uint8),
    "flags": np.array([True, False]),
    "empty": np.empty((0, 4), np.float32),
}


def partitioned(path: Path, version: int) -> dict[str, np.ndarray]:
    """A checkpoint of a graph with variables in several parts, as TensorFlow 1 trained large layers."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        rows = v1.get_variable("rows", (300, 90), partitioner=v1.fixed_size_partitioner(3))
        columns = v1.get_variable("columns", (7, 9000), partitioner=v1.fixed_size_partitioner(4, axis=1))
        plain = v1.get_variable("plain", (3,))
        session.run(v1.global_variables_initializer())
        v1.train.Saver(write_version=version).save(session, str(path), write_meta_graph=False)
        return {
            "rows": np.concatenate(session.run(list(rows))),
            "columns": np.concatenate(session.run(list(columns)), axis=1),
            "plain": session.run(plain),
        }


def read(path: Path, name: str) -> np.ndarray:
    with open_checkpoint(path) as checkpoint:
        return checkpoint.read(name)


@pytest.mark.parametrize("version", [1, 2])
def test_every_type_comes_back_to_the_bit(tmp_path: Path, version: int) -> None:
    with open_checkpoint(synthetic.write_tensorflow(tmp_path / "model.ckpt", VALUES, version)) as checkpoint:
        assert set(checkpoint.tensors) == set(VALUES)
        for name, expected in VALUES.items():
            found = checkpoint.read(name)
            assert found.dtype == expected.dtype, name
            np.testing.assert_array_equal(found, expected, err_msg=name)


def test_tensorflow_reads_what_the_tests_write_without_it(tmp_path: Path) -> None:
    """So that checkpoints can be written where another engine runs alone."""
    import tensorflow as tf

    values = {name: value for name, value in VALUES.items() if value.dtype in (np.float32, np.int64)}
    values["global_step"] = np.array(2**40, np.int64)
    path = synthetic.write_bundle(tmp_path / "model.ckpt", values)
    reader = tf.train.load_checkpoint(str(path))
    assert set(reader.get_variable_to_shape_map()) == set(values)
    for name, expected in values.items():
        np.testing.assert_array_equal(reader.get_tensor(name), expected, err_msg=name)
        np.testing.assert_array_equal(read(path, name), expected, err_msg=name)


@pytest.mark.parametrize("version", [1, 2])
def test_tensors_in_several_parts_are_put_together(tmp_path: Path, version: int) -> None:
    expected = partitioned(tmp_path / "model.ckpt", version)
    with open_checkpoint(tmp_path / "model.ckpt") as checkpoint:
        assert set(checkpoint.tensors) == set(expected)
        for name, values in expected.items():
            np.testing.assert_array_equal(checkpoint.read(name), values, err_msg=name)


@pytest.mark.parametrize(("version", "file"), [(1, "model.ckpt"), (2, "model.ckpt.data-00000-of-00001")])
def test_one_changed_bit_of_a_value_is_noticed(tmp_path: Path, version: int, file: str) -> None:
    path = synthetic.write_tensorflow(tmp_path / "model.ckpt", VALUES, version)
    content = bytearray((tmp_path / file).read_bytes())
    content[content.index(VALUES["kernel"].tobytes()) + 60_000] ^= 4
    (tmp_path / file).write_bytes(content)
    # A block of V1 holds several tensors, here the list of all of them too.
    with pytest.raises(InputError, match="its checksum is wrong"):
        read(path, "kernel")


@pytest.mark.parametrize("length", [0, 1, 9, 4095, 4096, 8193, 100_003, 3_000_001])
def test_checksums_are_those_of_the_definition(length: int) -> None:
    """Bit by bit, of the polynomial; the first line is the check value of the standard."""
    assert crc32c(b"123456789") == 0xE3069283
    data = np.random.default_rng(length).bytes(length)
    if length > 10_000:  # of two parts, as the remainder of the first carries on
        assert crc32c(bytes(length)) != crc32c(bytes(length - 1))
        assert crc32c(data) == synthetic.crc32c_by_tensorflow(data)
        return
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    assert crc32c(data) == remainder ^ 0xFFFFFFFF


def test_keys_of_slices_sort_as_their_numbers_do() -> None:
    numbers = sorted({sign * (2**power + step) for sign in (1, -1) for power in range(0, 62, 3) for step in (-1, 0, 1)})
    keys = [_signed_key(number) for number in numbers]
    assert keys == sorted(keys)
    assert (_signed_key(0), _signed_key(-1), _signed_key(64)) == (b"\x80", b"\x7f", b"\xc0\x40")


def test_no_tensorflow_is_imported(tmp_path: Path) -> None:
    path = synthetic.write_tensorflow(tmp_path / "model.ckpt", {"a": np.ones(3, np.float32)}, 2)
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from inception_resnet_keras.weights.readers import open_checkpoint\n"
        f"print(open_checkpoint({str(path)!r}).read('a').sum())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "3.0\n", done.stderr
