"""The generator of the default network: a U-Net of five scales with residual blocks, attention and noise, for inpainting."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from maskgan_jax.errors import UserError
from maskgan_jax.models.convolutions import Conv
from maskgan_jax.models.inputs import check_shape, without_hidden
from maskgan_jax.models.normalization import Normalization
from maskgan_jax.models.same_convolutions import Join, SameConv

# Scales below the first; at 256 px the smallest feature maps are of 16 px.
SCALES = 4


class ResidualUNet(nn.Module):
    """An inpainting network: it sees the image without what is hidden, and the mask, and draws inside the mask alone.

    Pix2pix's U-Net has one convolution at each scale and goes down to one pixel. Here the smallest scales, where what is
    missing is made up from what is seen, have several residual blocks (He et al. 2016), every other one dilated (as in
    EdgeConnect, Nazeri et al. 2019), and self-attention lets each half of the face see the other (SAGAN, Zhang et al. 2019).
    Fixed noise, scaled by learned factors, gives the decoder something to make the grain of skin and film from (StyleGAN,
    Karras et al. 2019).

    At 256 px, width 32 and 4 blocks: 14,863,395 parameters.

    Attributes:
      width: channels at the first scale; the next ones have 2, 4, 8 and 8 times as many.
      blocks: residual blocks at the smallest scale, and in the decoder at the next one.
      norm: see `Normalization`.
      dtype: type of the arithmetic; parameters are float32.
    """

    width: int = 32
    blocks: int = 4
    norm: str = "batch"
    dtype: DTypeLike = jnp.float32

    inpaints = True

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array, train: bool = False) -> jax.Array:
        """Maps masked faces `[B, S, S, 3]` to unmasked ones, both in [-1, 1]; S is a power of two from 64 up.

        Args:
          image: the masked faces.
          mask: `[B, S, S, 1]`, 1 = hidden and 0 = not.
          train: whether batch norm takes the statistics of the batch.

        Raises:
          UserError: images of another shape.
        """
        check_shape(image)
        channels = [self.width * min(2**i, 8) for i in range(SCALES + 1)]

        def block(x: jax.Array, name: str, dilation: int = 1) -> jax.Array:
            return ResidualBlock(self.norm, dilation, self.dtype, name=name)(x, train)

        x = without_hidden(image, mask)
        x = SameConv(channels[0], dtype=self.dtype, name="stem")(x)
        skips = []
        for i in range(1, SCALES + 1):
            skips.append(x)
            x = nn.relu(Normalization(self.norm, running=True, name=f"down_norm_{i}")(x, train))
            x = Conv(channels[i], dtype=self.dtype, name=f"down_{i}")(x)
            if 1 < i < SCALES:
                x = block(x, f"down_block_{i}")
        for j in range(self.blocks):
            x = block(x, f"middle_block_{j}", 1 + j % 2)
            if j % 2:
                x = SelfAttention(self.norm, self.dtype, name=f"attention_{j}")(x, train)
        for i in reversed(range(SCALES)):
            x = nn.relu(Normalization(self.norm, running=True, name=f"up_norm_{i}")(x, train))
            x = Conv(channels[i], transpose=True, nearest=True, dtype=self.dtype, name=f"up_{i}")(x)
            x = Join(channels[i], self.dtype, name=f"join_{i}")(x, skips.pop())
            if i < SCALES - 1:
                x = Noise(self.dtype, name=f"noise_{i}")(x)
            for j in range(self.blocks if i == SCALES - 1 else 1):
                x = block(x, f"up_block_{i}_{j}", 1 + j % 2)
        x = nn.relu(Normalization(self.norm, running=True, name="output_norm")(x, train))
        x = jnp.tanh(SameConv(3, dtype=self.dtype, name="output")(x).astype(jnp.float32))
        return jnp.where(mask > 0, x, image)


class ResidualBlock(nn.Module):
    """Norm, ReLU and convolution, twice, added to what came in (He et al. 2016, "Identity mappings"); at first the identity."""

    norm: str
    dilation: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[B, H, W, C]` to the same."""
        features = x.shape[-1]
        y = nn.relu(Normalization(self.norm, running=True, name="norm_0")(x, train))
        y = SameConv(features, self.dilation, bias=False, dtype=self.dtype, name="conv_0")(y)
        y = nn.relu(Normalization(self.norm, running=True, name="norm_1")(y, train))
        return x + SameConv(features, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="conv_1")(y)


class SelfAttention(nn.Module):
    """Every pixel of a small feature map looks at every other one; at first the identity."""

    norm: str
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[B, H, W, C]` to the same; C is a multiple of 4."""
        batch, height, width, features = x.shape
        y = Normalization(self.norm, running=True, name="norm")(x, train)
        position = self.param("position", nn.initializers.normal(0.02), (1, height, width, features))
        y = (y + position.astype(y.dtype)).reshape(batch, height * width, features)
        query, key, value = jnp.split(nn.Dense(3 * features, dtype=self.dtype, name="qkv")(y), 3, axis=-1)

        def heads(z: jax.Array) -> jax.Array:
            return z.reshape(batch, height * width, 4, features // 4)

        y = nn.dot_product_attention(heads(query), heads(key), heads(value)).reshape(y.shape)
        y = nn.Dense(features, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="output")(y)
        return x + y.reshape(x.shape)


class Noise(nn.Module):
    """Adds the same white noise to every image, times a learned factor for each channel; at first nothing."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to the same."""
        strength = self.param("strength", nn.initializers.zeros, (x.shape[-1],))
        noise = jax.random.normal(jax.random.key(0, impl="threefry2x32"), (1, *x.shape[1:3], 1))
        return x + (noise * strength).astype(x.dtype)


def create_residual_unet(settings: ConfigDict, dtype: DTypeLike) -> ResidualUNet:
    """The residual U-Net that the section `generator` of a config describes.

    Raises:
      UserError: it is not to inpaint.
    """
    if not settings.inpaints:
        raise UserError("the 'residual' generator inpaints; set generator.inpaints=True, or generator.architecture='unet'")
    return ResidualUNet(settings.width, settings.blocks, settings.norm, dtype)
