"""The segmentation network: finds the mask on an aligned face."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from maskgan_jax.models.convolutions import Conv
from maskgan_jax.models.normalization import Normalization


class SegmentationNet(nn.Module):
    """A small U-Net (Ronneberger et al. 2015): halves the image down to four pixels and doubles it back.

    Attributes:
      width: channels of the first layer; the next ones have 2, 4 and then 8 times as many.
      dtype: type of the arithmetic; parameters are float32.
    """

    width: int = 16
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False) -> jax.Array:
        """Logits `[B, S, S]` of each pixel to be hidden, for aligned faces `[B, S, S, 3]` in [-1, 1], masked or not."""
        channels = []
        skips = []
        x = image
        while x.shape[1] > 4:
            i = len(channels)
            skips.append(x)
            channels.append(self.width * min(2**i, 8))
            x = Conv(channels[-1], dtype=self.dtype, name=f"down_{i}")(x)
            # Batch norm: once trained, the network is a fixed function of each image by itself.
            x = nn.relu(Normalization("batch", running=True, name=f"down_norm_{i}")(x, train))
        for i in reversed(range(1, len(channels))):
            x = Conv(channels[i - 1], transpose=True, nearest=True, dtype=self.dtype, name=f"up_{i}")(x)
            x = nn.relu(Normalization("batch", running=True, name=f"up_norm_{i}")(x, train))
            x = jnp.concatenate([skips[i], x], axis=-1)
        x = Conv(1, transpose=True, nearest=True, bias=True, dtype=self.dtype, name="up_0")(x)
        return x[..., 0].astype(jnp.float32)


def create_segmentation_net(config: ConfigDict) -> SegmentationNet:
    """The segmentation network that a config describes."""
    return SegmentationNet(config.segmentation_net.width, jnp.dtype(config.training.compute))
