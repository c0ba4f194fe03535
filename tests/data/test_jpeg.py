import io

import numpy as np
from PIL import Image

from maskgan_jax.data.jpeg import through_jpeg


def test_it_is_what_another_encoder_leaves():
    """Of a picture with strong colours, of which JPEG keeps blue less well than red: the channels must not be swapped."""
    patches = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    image = np.repeat(np.repeat(patches, 5, axis=0), 5, axis=1)
    for quality in (30, 60, 90):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        expected = np.asarray(Image.open(file))
        found = through_jpeg(image, quality)
        assert found.shape == image.shape and found.dtype == np.uint8
        error = np.abs(found.astype(int) - expected)
        assert error.mean() < 0.5 < np.abs(expected.astype(int) - image).mean()
