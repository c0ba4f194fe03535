"""The baseline "Yi" of the paper's tables: "A novel GAN-based network for unmasking of masked face" (Ud Din et al. 2020).

Its authors published no code. This follows their text and figures; what these leave open is marked "assumed".
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from maskgan_jax.models.convolutions import DIMENSIONS, enlarging_kernel, transpose_convolve
from maskgan_jax.models.inputs import check_shape
from maskgan_jax.models.normalization import Normalization
from maskgan_jax.models.patchgan import Discriminator, create_discriminator
from maskgan_jax.models.same_convolutions import SameConv
from maskgan_jax.models.segmentation_net import SegmentationNet

# Scales above the bottleneck, and how many of their blocks, from the largest on, squeeze and excite (assumed), by this ratio.
SCALES = 5
EXCITED = 3
RATIO = 16
# Dilations of the bottleneck's convolutions (assumed).
DILATIONS = (2, 4, 8, 16)
# Channels of the map module, as `segmentation_net.width`.
MAP_WIDTH = 16


class Yi(nn.Module):
    """The map module, which finds the face mask, and the editing module, which draws the face without it.

    The map module is the project's segmentation network, trained before and by itself (the authors' is a U-Net like the editing
    module). What it finds is opened (a binary erosion, then a dilation), and is a fourth channel of what the editing module
    sees: a U-Net of 11 blocks of convolution, instance norm and leaky ReLU, with squeeze-and-excitation (Hu et al. 2018) in the
    encoder and dilated convolutions at the bottleneck.

    Attributes:
      width: channels at the first scale; each next one has twice as many (Ud Din et al.: 32, up to 1024 at the bottleneck).
      dtype: type of the arithmetic; parameters are float32.
    """

    width: int = 32
    dtype: DTypeLike = jnp.float32

    # It is not told the mask.
    inpaints = False
    parts = {"map_net": "segmentation"}

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array | None = None, train: bool = False) -> jax.Array:
        """Maps masked faces `[B, S, S, 3]` to unmasked ones, both in [-1, 1]; S is a power of two from 64 up.

        Args:
          image: the masked faces.
          mask: not looked at.
          train: changes nothing.

        Raises:
          UserError: images of another shape.
        """
        check_shape(image)
        found = SegmentationNet(MAP_WIDTH, self.dtype, name="map_net")(image)
        found = jax.lax.stop_gradient(opened((found > 0).astype(jnp.float32)[..., None]))

        x = jnp.concatenate([image, found], axis=-1)
        skips = []
        for i in range(SCALES):
            x = self._block(x, self.width * 2**i, f"down_{i}")
            if i < EXCITED:
                x = SqueezeAndExcitation(self.dtype, name=f"excitation_{i}")(x)
            skips.append(x)
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = self._block(x, self.width * 2**SCALES, "bottleneck")
        for i, dilation in enumerate(DILATIONS):
            x = nn.leaky_relu(SameConv(x.shape[-1], dilation, dtype=self.dtype, name=f"dilated_{i}")(x), 0.2)
        for i in reversed(range(SCALES)):
            x = EnlargingConv(self.width * 2**i, self.dtype, name=f"up_{i}")(x, skips.pop())
            x = self._normalized(x, f"up_{i}_norm")
        x = nn.Conv(3, (1, 1), dtype=self.dtype, name="output")(x)
        return jnp.tanh(x.astype(jnp.float32))

    def _block(self, x: jax.Array, features: int, name: str) -> jax.Array:
        return self._normalized(SameConv(features, bias=False, dtype=self.dtype, name=name)(x), f"{name}_norm")

    def _normalized(self, x: jax.Array, name: str) -> jax.Array:
        return nn.leaky_relu(Normalization("instance", name=name)(x), 0.2)


class EnlargingConv(nn.Module):
    """3x3 convolution of a map whose pixels are doubled, joined with the skip connection's.

    The parameters are those of `flax.linen.Conv` without a bias. Doubling pixels and then convolving is one transposed
    convolution, with 4/9 of the products.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, skip: jax.Array) -> jax.Array:
        """`[B, H, W, C]` and `[B, 2H, 2W, D]` to `[B, 2H, 2W, features]`."""
        channels = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, channels + skip.shape[-1], self.features))
        enlarging, beside = (k.astype(self.dtype) for k in (enlarging_kernel(kernel[:, :, :channels]), kernel[:, :, channels:]))
        x, skip = x.astype(self.dtype), skip.astype(self.dtype)
        beside = jax.lax.conv_general_dilated(skip, beside, (1, 1), ((1, 1), (1, 1)), dimension_numbers=DIMENSIONS)
        return transpose_convolve(x, enlarging) + beside


class SqueezeAndExcitation(nn.Module):
    """Scales each channel by what the means of all channels say (Hu et al. 2018)."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to the same."""
        features = x.shape[-1]
        y = nn.relu(nn.Dense(max(1, features // RATIO), dtype=self.dtype, name="squeeze")(x.mean((1, 2))))
        return x * nn.sigmoid(nn.Dense(features, dtype=self.dtype, name="excite")(y))[:, None, None]


def opened(mask: jax.Array) -> jax.Array:
    """Masks `[B, S, S, 1]`, 0 or 1, without parts narrower than three pixels: an erosion by 3 x 3 pixels, then a dilation."""
    eroded = -nn.max_pool(-mask, (3, 3), padding="SAME")
    return nn.max_pool(eroded, (3, 3), padding="SAME")


def create_yi(settings: ConfigDict, dtype: DTypeLike) -> Yi:
    """The network that the section `generator` of a config describes; `width` is read."""
    return Yi(settings.width, dtype)


def yi_discriminators(config: ConfigDict, generator: nn.Module) -> dict[str, Discriminator]:
    """Two PatchGANs: one sees the whole image, and one, from two fifths of the run on, the real one with the hidden part drawn.

    Their weights in the adversarial term are 0.3 and 0.7 (Ud Din et al. 2020).
    """
    del generator
    module = create_discriminator(config)
    return {
        "discriminator": Discriminator(module, lambda image, masked, mask: (masked, image), weight=0.3),
        "mask_discriminator": Discriminator(
            module, lambda image, masked, mask: (masked, jnp.where(mask > 0, image, masked)), weight=0.7, joins=0.4
        ),
    }
