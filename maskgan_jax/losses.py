"""The losses of the paper, Eq. 1 to 5, and one beyond it, of the networks' outputs; each gives the mean over the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from maskgan_jax.data.points import CONTOUR

# From [-1, 1], which the networks see, to the 0-255 scale that C2 is defined on.
LEVELS_PER_UNIT = 127.5


def adversarial_loss(fake_logits: jax.Array) -> jax.Array:
    """The generator's adversarial term in Eq. 1 and 3: -log D_fake (non-saturating), mean over patches `[B, h, w]`.

    The paper writes log D_fake and minimises it "to make D_fake close to 1", which is the negative logarithm.
    """
    return jax.nn.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Eq. 2, -(log D_real + log(1 - D_fake)), mean over patches `[B, h, w]`; halved, as pix2pix does to slow D down."""
    return 0.5 * (jax.nn.softplus(-real_logits).mean() + jax.nn.softplus(fake_logits).mean())


def l1_loss(generated: jax.Array, real: jax.Array) -> jax.Array:
    """L1 of Eq. 1 and 3: mean absolute error of pictures `[B, S, S, 3]` in [-1, 1], over all pixels and channels."""
    return jnp.abs(generated - real).mean()


def contour_loss(generated_landmarks: jax.Array, real_landmarks: jax.Array) -> jax.Array:
    """C1, Eq. 4: error of the 17 contour points, in pixels, mean over points.

    The error of a point is |dx| + |dy| (the paper does not name the norm). Both arguments are `[B, 68, 2]`, of the generated
    and of the real picture, by the same frozen landmark network: so the real picture is where it is smallest.
    """
    return jnp.abs(generated_landmarks[:, CONTOUR] - real_landmarks[:, CONTOUR]).sum(-1).mean()


def gradient_penalty(judge: Callable[[jax.Array], jax.Array], real: jax.Array) -> jax.Array:
    """R1 (Mescheder et al. 2018): the squared norm of the gradient of D's logits in a real picture, mean over the batch.

    Args:
      judge: gives the logits `[B, h, w]` of pictures.
      real: pictures `[B, S, S, 3]` in [-1, 1].
    """
    gradient = jax.grad(lambda pictures: judge(pictures).sum())(real)
    return jnp.square(gradient).sum((1, 2, 3)).mean()


def feature_matching_loss(generated_layers: Sequence[jax.Array], real_layers: Sequence[jax.Array]) -> jax.Array:
    """Feature matching (Wang et al. 2018, pix2pixHD, Eq. 4): mean absolute difference of D's layers, mean over the layers.

    Beyond the paper. Both are what `PatchGAN` gives beside its logits, `[B, h, w, C]`, of generated and of real pictures.
    """
    pairs = zip(generated_layers, real_layers, strict=True)
    return jnp.stack([jnp.abs((one - other).astype(jnp.float32)).mean() for one, other in pairs]).mean()


def masked_loss(generated: jax.Array, real: jax.Array, mask: jax.Array) -> jax.Array:
    """C2, Eq. 5: squared error, summed over R, G, B on the 0-255 scale, per pixel of the masked region.

    Args:
      generated: pictures `[B, S, S, 3]` in [-1, 1].
      real: the same.
      mask: `[B, S, S, 1]`, 1 = hidden. A picture with nothing hidden counts as 0.
    """
    squared = jnp.square(LEVELS_PER_UNIT * (generated - real)).sum(-1, keepdims=True)
    pixels = jnp.maximum(mask.sum((1, 2, 3)), 1.0)
    return ((squared * mask).sum((1, 2, 3)) / pixels).mean()
