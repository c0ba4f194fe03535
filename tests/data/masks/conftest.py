import numpy as np
import pytest
from ml_collections import ConfigDict

from maskgan_jax.configs.default import get_config


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
