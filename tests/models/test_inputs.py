import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.models.inputs import check_shape, without_hidden


def test_square_images_whose_side_is_a_power_of_two():
    for side in (64, 128, 512):
        check_shape(jnp.zeros((1, side, side, 3)))
    for shape in ((1, 32, 32, 3), (1, 96, 96, 3), (1, 64, 128, 3), (1, 64, 64, 4)):
        with pytest.raises(UserError, match="square RGB images of 64, 128, 256"):
            check_shape(jnp.zeros(shape))


def test_what_is_hidden_is_grey_and_told():
    rng = np.random.default_rng(0)
    image, mask = rng.uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32), rng.integers(0, 2, (2, 8, 8, 1)).astype(np.float32)
    expected = np.concatenate([image * (1 - mask), mask], axis=-1)
    np.testing.assert_array_equal(without_hidden(jnp.array(image), jnp.array(mask)), expected)
