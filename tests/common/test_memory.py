import pytest
from hypothesis import given
from hypothesis import strategies as st

from inception_resnet_keras.common.devices import is_out_of_memory, largest_that_fits


@given(st.integers(1, 2000), st.data())
def test_the_largest_batch_fits_and_is_near_the_edge(failed: int, data: st.DataObject) -> None:
    edge = data.draw(st.integers(0, failed - 1))  # the largest that fits in truth
    tried: list[int] = []

    def fits(batch: int) -> bool:
        tried.append(batch)
        return batch <= edge

    found = largest_that_fits(failed, fits)
    assert found <= edge
    assert (found == 0) == (edge == 0)
    assert found == 0 or found in tried
    assert edge - found <= failed / 8 + 1
    assert all(1 <= batch < failed for batch in tried)
    assert len(tried) == len(set(tried))


def test_out_of_memory_is_known_by_whoever_raises_it() -> None:
    import tensorflow as tf

    class OutOfMemoryError(RuntimeError):
        """As PyTorch has it."""

    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"))
    assert is_out_of_memory(tf.errors.InternalError(None, None, "RESOURCE_EXHAUSTED: while trying to allocate 3GiB"))
    assert is_out_of_memory(RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer"))
    assert not is_out_of_memory(tf.errors.InternalError(None, None, "no such kernel"))
    assert not is_out_of_memory(ValueError("out of memory"))  # of an argument, whatever it says
    with pytest.raises(MemoryError):
        bytearray(2**60)
