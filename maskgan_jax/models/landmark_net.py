"""The landmark network: dlib's 68 points distilled into a convolutional network, so that C1 (Eq. 4) has a gradient."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from maskgan_jax.models.convolutions import Conv
from maskgan_jax.models.normalization import Normalization


class LandmarkNet(nn.Module):
    """Regresses dlib's 68 points from an aligned face, masked or not.

    Attributes:
      width: channels of the first layer; the next ones have 2, 4 and then 8 times as many.
      dtype: type of the arithmetic; parameters are float32.
    """

    width: int = 32
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False) -> jax.Array:
        """Landmarks `[B, 68, 2]`, (x, y) in pixels, of aligned faces `[B, S, S, 3]` in [-1, 1]."""
        side = image.shape[1]
        x = image
        i = 0
        while x.shape[1] > 4:
            x = Conv(self.width * min(2**i, 8), dtype=self.dtype, name=f"conv_{i}")(x)
            # Batch norm: once frozen, the network is a fixed function of each image by itself.
            x = nn.relu(Normalization("batch", running=True, name=f"norm_{i}")(x, train))
            i += 1
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(8 * self.width, dtype=self.dtype, name="hidden")(x))
        x = nn.Dense(2 * 68, kernel_init=nn.initializers.normal(1e-3), name="points")(x.astype(jnp.float32))
        return side * (0.5 + 0.25 * x.reshape(-1, 68, 2))


def create_landmark_net(config: ConfigDict) -> LandmarkNet:
    """The landmark network that a config describes."""
    return LandmarkNet(config.landmark_net.width, jnp.dtype(config.training.compute))
