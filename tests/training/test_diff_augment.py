import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from maskgan_jax.training.diff_augment import diff_augment


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    image, masked = rng.uniform(-1, 1, (2, 3, 16, 16, 3)).astype(np.float32)
    return image, masked, (rng.random((3, 16, 16, 1)) > 0.5).astype(np.float32)


def reference(key, image, masked, mask):
    """The paper's three variations, one image after the other, with the same random numbers."""
    keys = jax.random.split(key, 4)
    count, side = image.shape[:2]
    draw = [np.ravel(jax.random.uniform(keys[i], (count, 1, 1, 1))) for i in range(3)]
    corners = np.asarray(jax.random.randint(keys[3], (count, 2), 0, 5))
    out = [np.zeros_like(array) for array in (image, masked, mask)]
    for n in range(count):
        dy, dx = corners[n] - 2
        for array, moved, has_colour in zip((image, masked, mask), out, (True, True, False), strict=True):
            one = array[n].astype(np.float64)
            if has_colour:
                one = one + draw[0][n] - 0.5
                luminance = one.mean(axis=2, keepdims=True)
                one = (one - luminance) * (draw[1][n] * 2) + luminance
                one = (one - one.mean()) * (draw[2][n] + 0.5) + one.mean()
            for y in range(side):
                for x in range(side):
                    if 0 <= y + dy < side and 0 <= x + dx < side:
                        moved[n, y, x] = one[y + dy, x + dx]
    return out


def test_equals_the_paper(images):
    key = jax.random.key(3)
    for ours, theirs in zip(diff_augment(key, *images), reference(key, *images), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_one_key_varies_all_images_alike(images):
    """Else a discriminator would tell generated images from real ones by the variation."""
    image, masked, mask = images
    one, two = (diff_augment(jax.random.key(1), image, other, mask) for other in (masked, -masked))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[2], two[2])
    assert not np.array_equal(one[0], diff_augment(jax.random.key(2), *images)[0])


def test_gradients(images):
    _, masked, mask = jax.tree.map(jnp.asarray, images)
    check_grads(lambda image: diff_augment(jax.random.key(0), image, masked, mask)[0], (images[0],), 1, atol=1e-2, rtol=1e-2)
