"""Images and masks as files hold them and as networks see them: what training and inference share."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

# Records, the batch first: `real` and `masked` `[B, S, S, 3]` uint8, `mask` `[B, S, S, 1]` uint8 (255 = hidden), `landmarks`
# `[B, 68, 2]` float32 in pixels.
Batch = Mapping[str, np.ndarray | jax.Array]


def normalize(images: jax.Array) -> jax.Array:
    """uint8 images to float32 in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def denormalize(images: jax.Array) -> jax.Array:
    """Images in [-1, 1] to the uint8 that files hold."""
    return jnp.clip(jnp.round((images + 1.0) * 127.5), 0, 255).astype(jnp.uint8)


def binary_mask(masks: jax.Array) -> jax.Array:
    """uint8 masks (255 = hidden) to float32: 1 = hidden, 0 = visible."""
    return (masks > 127).astype(jnp.float32)


def composite(generated: jax.Array, masked: jax.Array, mask: jax.Array) -> jax.Array:
    """The generated image inside the mask, the known pixels outside it. All uint8; the mask is 255 where hidden."""
    return jnp.where(mask > 127, generated, masked)
