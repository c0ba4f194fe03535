import jax
import jax.numpy as jnp
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.runtime.devices import device_errors


@pytest.mark.parametrize(
    ("program", "advice"),
    [
        ("maskgan train", "lower input.batch_size, or raise optimizer.accumulate or training.fsdp"),
        ("maskgan evaluate", "end other programs that use it, or set JAX_PLATFORMS=cpu"),
    ],
)
def test_more_memory_than_there_is(program, advice):
    with pytest.raises(UserError) as error, device_errors(program):
        jnp.zeros(2**50, jnp.uint8)
    told = f"the memory of the device is too small (Out of memory allocating {2**50} bytes); {advice}"
    assert str(error.value) == told


def test_other_errors_are_none_of_the_devices():
    """As what JAX raises of other causes, and the words that Orbax has for a full disk."""
    full = ValueError("RESOURCE_EXHAUSTED: Failed writing [os_error_code='28']")
    for other in (jax.errors.JaxRuntimeError("INTERNAL: a bug"), RuntimeError("RESOURCE_EXHAUSTED: workers"), full):
        with pytest.raises(type(other)) as error, device_errors("maskgan train"):
            raise other
        assert error.value is other
