import functools
from collections.abc import Callable

import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy.ndimage import gaussian_filter

from maskgan_jax.configs.default import get_config
from maskgan_jax.data.masks.light import Light


@pytest.fixture
def landmarks() -> np.ndarray:
    """A frontal face in 256 x 256 pixels whose points are easy to reckon with: mirror-symmetric about x = 128."""
    points = np.zeros((68, 2))
    # The jaw falls straight from (48, 100) to (68, 180), then straight to the chin (128, 240).
    points[:5] = np.linspace((48, 100), (68, 180), 5)
    points[4:9] = np.linspace((68, 180), (128, 240), 5)
    points[9:17] = (points[:8] * (-1, 1) + (256, 0))[::-1]
    points[17:22] = np.linspace((64, 84), (112, 84), 5)
    points[22:27] = np.linspace((144, 84), (192, 84), 5)
    points[27:31] = np.linspace((128, 100), (128, 140), 4)
    points[31:36] = np.linspace((112, 152), (144, 152), 5)
    points[36:42] = [(76, 100), (84, 96), (92, 96), (100, 100), (92, 104), (84, 104)]
    points[42:48] = points[36:42] * (-1, 1) + (256, 0)
    angle = np.linspace(np.pi, 3 * np.pi, 12, endpoint=False)
    points[48:60] = np.stack([128 + 28 * np.cos(angle), 182 + 14 * np.sin(angle)], axis=1)
    angle = np.linspace(np.pi, 3 * np.pi, 8, endpoint=False)
    points[60:68] = np.stack([128 + 20 * np.cos(angle), 182 + 5 * np.sin(angle)], axis=1)
    return points


@pytest.fixture
def face() -> np.ndarray:
    """Skin-coloured noise, 256 x 256."""
    noise = np.random.default_rng(7).normal(0, 6, (256, 256, 3))
    return np.clip(np.array((190, 145, 120)) + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def data_config() -> ConfigDict:
    return get_config().data


@pytest.fixture
def head(landmarks) -> np.ndarray:
    """The same face with a jaw as round as a face's, an arc of an ellipse."""
    points = landmarks.copy()
    angle = np.linspace(np.pi, 0, 17)
    points[:17] = np.stack([128 + 78 * np.cos(angle), 120 + 112 * np.sin(angle)], axis=1)
    return points


@functools.cache
def painted(size: int, blur: float, skin: tuple[int, int, int]) -> np.ndarray:
    fine = 4
    # In pixels of a picture of 256, `fine` points to each pixel in either direction.
    y, x = (np.mgrid[: size * fine, : size * fine] + 0.5) * (256 / (size * fine)) - 0.5
    picture = np.empty((size * fine, size * fine, 3), np.float32)
    picture[:] = 40, 90, 200
    picture[((x - 128) / 80) ** 2 + ((y - 120) / 114) ** 2 < 1] = skin
    for middle in (88, 168):
        picture[(np.abs(x - middle) < 24) & (np.abs(y - 84) < 3)] = np.multiply(skin, 0.3)
        picture[((x - middle) / 12) ** 2 + ((y - 100) / 5) ** 2 < 1] = 40
    picture[((x - 128) / 28) ** 2 + ((y - 182) / 14) ** 2 < 1] = np.multiply(skin, (0.9, 0.6, 0.6))
    picture = gaussian_filter(picture, (blur * fine, blur * fine, 0), truncate=3) if blur else picture
    return picture.reshape(size, fine, size, fine, 3).mean(axis=(1, 3))


@pytest.fixture
def paint() -> Callable[..., np.ndarray]:
    """What paints the face of `head`: a uint8 picture of skin, brows, eyes and lips on a blue ground."""

    def paint(
        size: int = 256, blur: float = 0.0, noise: float = 0.0, skin: tuple[int, int, int] = (190, 145, 120)
    ) -> np.ndarray:
        # Noise of lightness alone, as nearly all that compression leaves of it.
        dirt = np.random.default_rng(7).normal(0, noise, (size, size, 1))
        return np.clip(np.rint(painted(size, blur, skin) + dirt), 0, 255).astype(np.uint8)

    return paint


@pytest.fixture
def light() -> Light:
    """White light from the upper right."""
    direction = np.array((0.48, -0.36, 0.8), np.float32)
    return Light(np.ones(3, np.float32), direction, 0.3, 1.0, np.array((0.5, 0.3, 0.2), np.float32))
