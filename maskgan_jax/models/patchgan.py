"""The discriminator: pix2pix's PatchGAN (Isola et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from maskgan_jax.models.convolutions import Conv
from maskgan_jax.models.inputs import without_hidden
from maskgan_jax.models.normalization import Normalization


class PatchGAN(nn.Module):
    """Judges overlapping patches of an image, given the masked image it was made from.

    With three strided layers a patch is 70 x 70 pixels; at width 64 there are 2,768,705 parameters.

    Attributes:
      width: channels of the first layer; the next ones have 2, 4 and then 8 times as many.
      layers: strided layers, the first included.
      norm: see `Normalization`; always with the statistics of the batch at hand.
      dtype: type of the arithmetic; parameters are float32.
    """

    width: int = 64
    layers: int = 3
    norm: str = "instance"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, masked: jax.Array, image: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        """Judges images `[B, S, S, 3]`, given their masked ones, both in [-1, 1].

        Returns:
          Logits `[B, h, w]` (positive: real), and what each layer before them put out, `[B, h, w, C]`.
        """
        x = jnp.concatenate([masked, image], axis=-1)
        layers = []
        for i in range(self.layers + 1):
            last = i == self.layers
            features = self.width * min(2**i, 8)
            x = Conv(features, stride=1 if last else 2, bias=i == 0, dtype=self.dtype, name=f"conv_{i}")(x)
            if i > 0:
                x = Normalization(self.norm, name=f"norm_{i}")(x)
            x = nn.leaky_relu(x, 0.2)
            layers.append(x)
        x = Conv(1, stride=1, bias=True, dtype=self.dtype, name="logits")(x)
        return x[..., 0].astype(jnp.float32), layers


class Discriminator(NamedTuple):
    """A network that tells generated images from real ones, and what of an image it is shown.

    Attributes:
      module: (condition, image) -> logits and layers, as `PatchGAN`.
      view: (image, masked, mask) -> condition and image; all `[B, S, S, C]`, in [-1, 1], masks 1 = hidden.
      weight: of what it makes of the generated image, in the generator's adversarial term.
      joins: the fraction of the run after which it takes part.
    """

    module: nn.Module
    view: Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    weight: float = 1.0
    joins: float = 0.0


def create_discriminator(config: ConfigDict) -> PatchGAN:
    """The discriminator that a config describes."""
    settings = config.discriminator
    return PatchGAN(settings.width, settings.layers, settings.norm, jnp.dtype(config.training.compute))


def patch_discriminators(config: ConfigDict, generator: nn.Module) -> dict[str, Discriminator]:
    """One PatchGAN, which sees the image beside the masked one or, if the generator inpaints, beside what the generator sees.

    That is the image without what is hidden, and the mask. With `input.vary_region`, the "masked" image of a record is the real
    one: a discriminator that saw it would only have to compare.
    """

    def view(image: jax.Array, masked: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        if not generator.inpaints:
            return masked, image
        return without_hidden(masked, mask), image

    return {"discriminator": Discriminator(create_discriminator(config), view)}
