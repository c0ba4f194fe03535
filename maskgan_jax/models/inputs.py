"""What all generators do with the images that they are given."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from maskgan_jax.errors import UserError


def check_shape(image: jax.Array) -> None:
    """Raises UserError unless these are images `[B, S, S, 3]`, where S is a power of two from 64 up."""
    side = image.shape[1]
    if image.shape[1:] != (side, side, 3) or side < 64 or side & (side - 1):
        raise UserError(f"the generator takes square RGB images of 64, 128, 256, ... pixels, not {image.shape[1:]}")


def without_hidden(image: jax.Array, mask: jax.Array) -> jax.Array:
    """What a network that inpaints sees: images `[B, S, S, 3]` without what is hidden, and the mask as a fourth channel."""
    return jnp.concatenate([jnp.where(mask > 0, 0.0, image), mask], axis=-1)
