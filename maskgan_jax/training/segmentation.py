"""Training the segmentation network: where the face mask is, on faces with drawn ones and on the same faces without."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics
from ml_collections import ConfigDict

from maskgan_jax.images import Batch, binary_mask, normalize
from maskgan_jax.models.segmentation_net import create_segmentation_net
from maskgan_jax.networks.description import Variables
from maskgan_jax.training.one_network import OneNetwork
from maskgan_jax.training.state import Tree, mean_of

# How far the colours of an image are changed at random: the factors of all and of each channel lie between 1 - x and 1 + x.
BRIGHTNESS = 0.4
TINT = 0.15
# The fractions of the images that get a strong cast in place of that tint, and a haze; and how strong these are at most.
CAST, MOST_CAST = 0.15, 0.5
HAZY, MOST_HAZE = 0.15, 0.7
# The fraction of the images that are softened as small or blurred faces are: their sides are divided by one of these.
SOFT = 0.3
SOFTNESS = (2, 3, 4)

# The fraction of the face masks that get a print of another image, and how often that is repeated across the face at most.
PRINTED = 0.5
MOST_REPEATS = 4

# Means over the validation records: intersection over union on the masked faces, the fraction of the unmasked faces that is
# taken for a mask, and what is missing from a perfect result.
Validation = mean_of("iou", "false_alarm", "error")


def segmentation_loss(logits: jax.Array, mask: jax.Array) -> jax.Array:
    """Cross-entropy and soft Dice (Milletari et al. 2016) of logits and masks (1 = hidden), `[B, S, S]`; mean over the batch.

    Cross-entropy alone would care as little for a small mask as for a few pixels of a large one.
    """
    cross_entropy = optax.sigmoid_binary_cross_entropy(logits, mask).mean()
    found = jax.nn.sigmoid(logits)
    overlap = 2 * (found * mask).sum((1, 2)) + 1.0
    return cross_entropy + (1 - overlap / (found.sum((1, 2)) + mask.sum((1, 2)) + 1.0)).mean()


def vary_colour(images: jax.Array, key: jax.Array) -> jax.Array:
    """Images `[B, S, S, 3]` in [-1, 1] under other light: each is brightened or darkened, and tinted; some are hazy."""
    both, each, casts, hazes, haze, colour = jax.random.split(key, 6)
    one, three = (len(images), 1, 1, 1), (len(images), 1, 1, 3)
    gain = jax.random.uniform(both, one, minval=1 - BRIGHTNESS, maxval=1 + BRIGHTNESS)
    most = jnp.where(jax.random.bernoulli(casts, CAST, one), MOST_CAST, TINT)
    tint = 1 + most * jax.random.uniform(each, three, minval=-1.0, maxval=1.0)
    images = jnp.clip((images + 1) * gain * tint - 1, -1, 1)
    haze = MOST_HAZE * jax.random.uniform(haze, one) * jax.random.bernoulli(hazes, HAZY, one)
    return images + haze * (jax.random.uniform(colour, three, minval=0.3, maxval=1.0) - images)


def soften(images: jax.Array, key: jax.Array) -> jax.Array:
    """Images `[B, S, S, 3]`, some of them shrunk and enlarged again: small faces, and those that are out of focus."""
    which, how = jax.random.split(key)
    batch, side, _, channels = images.shape
    softened = [
        jax.image.resize(jax.image.resize(images, (batch, side // by, side // by, channels), "linear"), images.shape, "cubic")
        for by in SOFTNESS
    ]
    chosen = jax.random.randint(how, (batch, 1, 1, 1), 0, len(SOFTNESS))
    softened = jnp.clip(jnp.select([chosen == i for i in range(len(SOFTNESS))], softened), -1, 1)
    return jnp.where(jax.random.bernoulli(which, SOFT, (batch, 1, 1, 1)), softened, images)


def add_prints(masked: jax.Array, mask: jax.Array, others: jax.Array, key: jax.Array) -> jax.Array:
    """Masked faces, with an image printed on some of the face masks: no set of drawn patterns is large enough.

    Args:
      masked: `[B, S, S, 3]` in [-1, 1].
      mask: `[B, S, S, 1]`, 1 = hidden.
      others: `[B, S, S, 3]` in [-1, 1]; each print is made of the one before it.
      key: of what is random.
    """
    which, how = jax.random.split(key)
    prints, opacity = jax.vmap(_print)(jnp.roll(others, 1, 0), jax.random.split(how, len(masked)))
    opacity *= mask * jax.random.bernoulli(which, PRINTED, (len(masked), 1, 1, 1))
    return masked + opacity * (prints - masked)


def _print(image: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A print made of a face, `[S, S, 3]`, and its opacity, `[S, S, 1]`, 0 to 1.

    The face is turned upside down, repeated, moved and recoloured, so that it is no face. Half of the prints are shapes with
    sharp outlines on plain cloth: the bright parts of the face.
    """
    side = len(image)
    how_often, where, colours, negative, strength, shapes, level = jax.random.split(key, 7)
    across, down = (
        (jnp.arange(side) * jax.random.randint(how_often, (), 1, MOST_REPEATS + 1) + shift) % side
        for shift in jax.random.randint(where, (2,), 0, side)
    )
    image = image[::-1][down][:, across][..., jax.random.permutation(colours, 3)]
    image *= jnp.where(jax.random.bernoulli(negative), -1.0, 1.0)
    brightness = image.mean(axis=-1, keepdims=True)
    shape = brightness > brightness.mean() + brightness.std() * jax.random.uniform(level, minval=-1.0, maxval=1.5)
    opacity = jnp.where(jax.random.bernoulli(shapes), shape, 1.0)
    return image, opacity * jax.random.uniform(strength)


class Segmentation(OneNetwork):
    """The segmentation network, and its cross-entropy and Dice loss."""

    network = "segmentation_net"
    sections = ("segmentation_net",)
    loss = "segmentation"
    criterion = "error"

    def __init__(self, config: ConfigDict):
        """The network that a config describes."""
        super().__init__(config, create_segmentation_net(config))
        self._jitted_find = jax.jit(self.find)

    def gradients(
        self, params: dict[str, Tree], batch_stats: Tree, frozen: Tree, batch: Batch, key: jax.Array
    ) -> tuple[dict[str, Tree], Tree, dict[str, jax.Array]]:
        """The gradient of `segmentation_loss`."""
        del frozen
        # Every fourth face is shown without its mask.
        bare = (batch["number"] % 4 == 3)[:, None, None, None]
        print_key, colour_key, soft_key = jax.random.split(key, 3)
        real, mask = normalize(batch["real"]), binary_mask(batch["mask"])
        masked = add_prints(normalize(batch["masked"]), mask, real, print_key)
        images = soften(vary_colour(jnp.where(bare, real, masked), colour_key), soft_key)
        mask = jnp.where(bare, 0.0, mask)[..., 0]

        return self.gradients_of(lambda logits: segmentation_loss(logits, mask), images, params, batch_stats)

    def find(self, variables: Variables, images: jax.Array) -> jax.Array:
        """Where the face masks are on uint8 images, `[B, S, S]` bool."""
        return self.module.apply(variables, normalize(images)) > 0

    def validate(self, variables: Variables, batch: Batch) -> metrics.Collection:
        """Overlap on masked faces, and false alarms on bare ones."""
        found, alarm = (self.find(variables, batch[name]) for name in ("masked", "real"))
        mask = batch["mask"][..., 0] > 127
        iou = (found & mask).sum((1, 2)) / jnp.maximum((found | mask).sum((1, 2)), 1)
        false_alarm = alarm.mean((1, 2))
        return Validation.single_from_model_output(
            iou=iou, false_alarm=false_alarm, error=1 - iou + false_alarm, mask=batch["weight"]
        )

    def draw(self, variables: Variables, batch: Batch) -> np.ndarray:
        """One row a face: masked, the true mask on it in green, the one that was found in red, and that on the bare face."""
        true = np.asarray(batch["mask"])[..., 0] > 127
        columns = [batch["masked"], _tinted(batch["masked"], true, 1)]
        columns += [
            _tinted(batch[name], np.asarray(self._jitted_find(variables, batch[name])), 0) for name in ("masked", "real")
        ]
        rows = np.concatenate(columns, axis=2)
        return rows.reshape(-1, *rows.shape[2:])


def _tinted(images: np.ndarray, masks: np.ndarray, channel: int) -> np.ndarray:
    """Images `[B, S, S, 3]` with masks `[B, S, S]` half covered by one of the primary colours."""
    colour = np.eye(3)[channel] * 255
    return np.where(masks[..., None], (np.asarray(images) + colour) / 2, images).astype(np.uint8)
