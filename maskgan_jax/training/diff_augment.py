"""What a discriminator sees, varied: DiffAugment (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GANs").

A discriminator that sees a few thousand faces again and again learns them by heart. If generated and real images are varied
alike, in every step and with gradients through it, it cannot, and the variations do not leak into what is generated.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

# By how much brightness changes, up or down, on the scale from -1 to 1; the factors of contrast and saturation are around 1.
BRIGHTNESS, CONTRAST, SATURATION = 0.5, 0.5, 1.0
# How far images move, as a fraction of their side. What comes in is grey.
REACH = 1 / 8


def diff_augment(
    key: jax.Array, image: jax.Array, masked: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Images in other colours, and moved; those of one example alike.

    Args:
      key: the same for the same variations.
      image, masked: `[B, S, S, 3]`, -1..1.
      mask: `[B, S, S, 1]`; it moves with them.

    Returns:
      The three, of the same shapes; colours may leave -1..1.
    """
    keys = jax.random.split(key, 4)
    batch, side = image.shape[:2]
    brightness, saturation, contrast = (
        jax.random.uniform(key, (batch, 1, 1, 1), minval=middle - most, maxval=middle + most)
        for key, middle, most in zip(keys, (0, 1, 1), (BRIGHTNESS, SATURATION, CONTRAST), strict=False)
    )
    reach = round(side * REACH)
    corners = jax.random.randint(keys[3], (batch, 2), 0, 2 * reach + 1)

    def in_other_colours(image: jax.Array) -> jax.Array:
        image = image + brightness
        grey = image.mean(-1, keepdims=True)
        image = grey + saturation * (image - grey)
        mean = image.mean((1, 2, 3), keepdims=True)
        return mean + contrast * (image - mean)

    def moved(image: jax.Array) -> jax.Array:
        padded = jnp.pad(image, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
        cut = jax.vmap(lambda one, corner: jax.lax.dynamic_slice(one, (*corner, 0), image.shape[1:]))
        return cut(padded, corners)

    return moved(in_other_colours(image)), moved(in_other_colours(masked)), moved(mask)
