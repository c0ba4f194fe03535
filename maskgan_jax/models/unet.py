"""The generator: pix2pix's U-Net (Isola et al. 2017), as it is or as an inpainting network that is told the mask."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from maskgan_jax.models.convolutions import Conv
from maskgan_jax.models.inputs import check_shape, without_hidden
from maskgan_jax.models.normalization import Normalization


class UNet(nn.Module):
    """Halves the image down to one pixel and doubles it back, with a skip connection at every size.

    At 256 px and width 64: 54,413,955 parameters (instance or batch norm).

    Attributes:
      width: channels of the first layer; the next ones have 2, 4 and then 8 times as many.
      norm: see `Normalization`; none on the first layer and on the innermost one.
      dropout: probability of dropout in the decoder while training.
      dropout_sides: sides, in pixels, of the decoder's feature maps that dropout acts on.
      upsampling: of the decoder: 'transposed', pix2pix's transposed convolutions, or 'nearest', as in `Conv`.
      inpaints: whether the network is told the mask. It then sees the image without what is hidden, and the mask as a fourth
        channel, and draws inside the mask only; otherwise the mask is ignored.
      dtype: type of the arithmetic; parameters are float32.
    """

    width: int = 64
    norm: str = "instance"
    dropout: float = 0.5
    dropout_sides: tuple[int, ...] = (4, 8, 16)
    upsampling: str = "transposed"
    inpaints: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array | None = None, train: bool = False) -> jax.Array:
        """Maps masked faces `[B, S, S, 3]` to unmasked ones, both in [-1, 1]; S is a power of two from 64 up.

        Args:
          image: the masked faces.
          mask: their masks `[B, S, S, 1]`, 1 = hidden and 0 = not; a network that inpaints needs them.
          train: whether dropout acts and batch norm takes the statistics of the batch.

        Raises:
          UserError: images of another shape.
        """
        check_shape(image)
        depth = image.shape[1].bit_length() - 1
        channels = [self.width * min(2**i, 8) for i in range(depth)]
        nearest = self.upsampling == "nearest"

        x = without_hidden(image, mask) if self.inpaints else image
        skips = []
        for i, features in enumerate(channels):
            if i > 0:
                skips.append(x)
                x = nn.leaky_relu(x, 0.2)
            x = Conv(features, dtype=self.dtype, name=f"down_{i}")(x)
            if 0 < i < depth - 1:
                x = Normalization(self.norm, running=True, name=f"down_norm_{i}")(x, train)
        x = nn.relu(x)
        for i in reversed(range(1, depth)):
            x = Conv(channels[i - 1], transpose=True, nearest=nearest, dtype=self.dtype, name=f"up_{i}")(x)
            x = Normalization(self.norm, running=True, name=f"up_norm_{i}")(x, train)
            if x.shape[1] in self.dropout_sides:
                x = drop_out(x, self.dropout, self.make_rng("dropout")) if train and self.dropout else x
            # The same as ReLU of what is joined, but XLA makes it one operation with the norm.
            x = jnp.concatenate([nn.relu(skips.pop()), nn.relu(x)], axis=-1)
        x = Conv(3, transpose=True, nearest=nearest, bias=True, dtype=self.dtype, name="up_0")(x)
        x = jnp.tanh(x.astype(jnp.float32))
        return jnp.where(mask > 0, x, image) if self.inpaints else x


def drop_out(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """`x` with each value set to 0 with the probability `rate`, which counts in 256ths, and the others scaled up to match.

    Four values along the last axis share one draw of 32 bits: drawing is what dropout costs.
    """
    channels = x.shape[-1]
    words = jax.random.bits(key, (*x.shape[:-1], -(-channels // 4)), jnp.uint32)
    draws = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(*x.shape[:-1], -1)[..., :channels]
    dropped = min(round(256 * rate), 255)
    return jnp.where(draws >= dropped, x * (256 / (256 - dropped)), 0).astype(x.dtype)


def create_unet(settings: ConfigDict, dtype: DTypeLike) -> UNet:
    """The U-Net that the section `generator` of a config describes."""
    return UNet(
        settings.width,
        settings.norm,
        settings.dropout,
        tuple(settings.dropout_sides),
        settings.upsampling,
        settings.inpaints,
        dtype,
    )
