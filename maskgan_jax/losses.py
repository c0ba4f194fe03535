"""The losses of the paper, Eq. 1 to 5, and a few beyond it; each gives the mean over the batch.

`TERMS` names the terms of the generator's loss. To add one, add a function of a `Context` to it, and its weight, under the same
name, to `losses` in configs/default.py (docs/extending.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maskgan_jax.data.points import CONTOUR

# From [-1, 1], which the networks see, to the 0-255 scale that C2 is defined on.
LEVELS_PER_UNIT = 127.5


class Judgement(NamedTuple):
    """What a discriminator makes of images: logits `[B, h, w]` (positive: real), and its layers' outputs `[B, h, w, C]`."""

    logits: jax.Array
    layers: Sequence[jax.Array]


@dataclasses.dataclass(frozen=True)
class Context:
    """What the terms of the generator's loss may look at, of one batch.

    Attributes:
      generated: what the generator made, `[B, S, S, 3]` in [-1, 1].
      real: what it should have made.
      masked: what it was given.
      mask: `[B, S, S, 1]`, 1 = hidden.
      fake: by the name of each discriminator, its judgement of `generated`.
      true: the same of `real`.
      real_landmarks: those that the frozen landmark network finds on `real`, `[B, 68, 2]`; None if there is no such network.
      networks: frozen networks, by the names of the terms that look through them.
      weights: of the discriminators in the adversarial term, by their names.
    """

    generated: jax.Array
    real: jax.Array
    masked: jax.Array
    mask: jax.Array
    fake: Mapping[str, Judgement] = dataclasses.field(default_factory=dict)
    true: Mapping[str, Judgement] = dataclasses.field(default_factory=dict)
    real_landmarks: jax.Array | None = None
    networks: Mapping[str, Callable[..., jax.Array]] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, jax.Array | float] = dataclasses.field(default_factory=dict)


def adversarial_loss(fake_logits: jax.Array) -> jax.Array:
    """The generator's adversarial term in Eq. 1 and 3: -log D_fake (non-saturating), mean over patches `[B, h, w]`.

    The paper writes log D_fake and minimises it "to make D_fake close to 1", which is the negative logarithm.
    """
    return jax.nn.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Eq. 2, -(log D_real + log(1 - D_fake)), mean over patches `[B, h, w]`; halved, as pix2pix does to slow D down."""
    return 0.5 * (jax.nn.softplus(-real_logits).mean() + jax.nn.softplus(fake_logits).mean())


def l1_loss(generated: jax.Array, real: jax.Array) -> jax.Array:
    """L1 of Eq. 1 and 3: mean absolute error of images `[B, S, S, 3]` in [-1, 1], over all pixels and channels."""
    return jnp.abs(generated - real).mean()


def contour_loss(generated_landmarks: jax.Array, real_landmarks: jax.Array) -> jax.Array:
    """C1, Eq. 4: error of the 17 contour points, in pixels, mean over points.

    The error of a point is |dx| + |dy| (the paper does not name the norm). Both arguments are `[B, 68, 2]`, of the generated
    and of the real image, by the same frozen landmark network, so that the real image has the smallest loss there is.
    """
    return jnp.abs(generated_landmarks[:, CONTOUR] - real_landmarks[:, CONTOUR]).sum(-1).mean()


def masked_loss(generated: jax.Array, real: jax.Array, mask: jax.Array) -> jax.Array:
    """C2, Eq. 5: squared error, summed over R, G, B on the 0-255 scale, per pixel of the masked region.

    Args:
      generated: images `[B, S, S, 3]` in [-1, 1].
      real: the same.
      mask: `[B, S, S, 1]`, 1 = hidden. An image with nothing hidden counts as 0.
    """
    squared = jnp.square(LEVELS_PER_UNIT * (generated - real)).sum(-1, keepdims=True)
    pixels = jnp.maximum(mask.sum((1, 2, 3)), 1.0)
    return ((squared * mask).sum((1, 2, 3)) / pixels).mean()


def feature_matching_loss(generated_layers: Sequence[jax.Array], real_layers: Sequence[jax.Array]) -> jax.Array:
    """Feature matching (Wang et al. 2018, pix2pixHD, Eq. 4): mean absolute difference of D's layers, mean over the layers.

    Beyond the paper. Both are what `PatchGAN` gives beside its logits, `[B, h, w, C]`, of generated and of real images.
    """
    pairs = zip(generated_layers, real_layers, strict=True)
    return jnp.stack([jnp.abs((one - other).astype(jnp.float32)).mean() for one, other in pairs]).mean()


def gradient_penalty(judge: Callable[[jax.Array], jax.Array], real: jax.Array) -> jax.Array:
    """R1 (Mescheder et al. 2018): the squared norm of the gradient of D's logits in a real image, mean over the batch.

    Args:
      judge: gives the logits `[B, h, w]` of images.
      real: images `[B, S, S, 3]` in [-1, 1].
    """
    gradient = jax.grad(lambda images: judge(images).sum())(real)
    return jnp.square(gradient).sum((1, 2, 3)).mean()


def ssim_loss(generated: jax.Array, real: jax.Array) -> jax.Array:
    """1 - SSIM (Wang et al. 2004) of images `[B, S, S, 3]` in [-1, 1], mean over pixels and channels.

    As `metrics.image_quality.ssim`: a Gaussian window of 11 x 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03, five pixels at each
    edge left out.
    """
    kernel = np.exp(-np.square(np.arange(-5.0, 6.0)) / (2 * 1.5**2))
    kernel /= kernel.sum()
    side = generated.shape[1]
    # Rows of weights: on a CPU, two products with this matrix take a twentieth of the time of sums of shifted images.
    window = sum(weight * np.eye(side - 10, side, i) for i, weight in enumerate(kernel))

    def blur(images: jax.Array) -> jax.Array:
        return jnp.einsum("ih,jw,bhwc->bijc", window, window, images, precision="highest")

    mean_x, mean_y = blur(generated), blur(real)
    variances = blur(jnp.square(generated)) + blur(jnp.square(real)) - jnp.square(mean_x) - jnp.square(mean_y)
    covariance = blur(generated * real) - mean_x * mean_y
    c1, c2 = 0.02**2, 0.06**2  # Of K1 and K2, for values that span 2.
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return 1 - (similarity / ((jnp.square(mean_x) + jnp.square(mean_y) + c1) * (variances + c2))).mean()


def _adversarial(context: Context) -> jax.Array:
    return sum(context.weights.get(name, 1.0) * adversarial_loss(fake.logits) for name, fake in context.fake.items())


def _feature_matching(context: Context) -> jax.Array:
    return sum(
        jnp.where(context.weights.get(name, 1.0) > 0, feature_matching_loss(fake.layers, context.true[name].layers), 0.0)
        for name, fake in context.fake.items()
    )


# The terms of Eq. 3 and those beyond the paper, by the names of their weights in the section `losses` of a config. ST-LPIPS is
# told the two images, and gives a distance for each pair.
TERMS: dict[str, Callable[[Context], jax.Array]] = {
    "adversarial": _adversarial,
    "l1": lambda context: l1_loss(context.generated, context.real),
    "contour": lambda context: contour_loss(context.networks["contour"](context.generated), context.real_landmarks),
    "masked": lambda context: masked_loss(context.generated, context.real, context.mask),
    "feature_matching": _feature_matching,
    "ssim": lambda context: ssim_loss(context.generated, context.real),
    "perceptual": lambda context: context.networks["perceptual"](context.generated, context.real).mean(),
    "perceptual_vgg": lambda context: context.networks["perceptual_vgg"](context.generated, context.real).mean(),
}
# These are logged even where they have no weight, so that runs with and without them can be compared.
ALWAYS = ("adversarial", "l1", "masked")
