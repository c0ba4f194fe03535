"""Training the segmentation network: where the mask is, on faces with drawn masks and on the same faces without."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics
from ml_collections import ConfigDict

from maskgan_jax.data.pipeline import Batch
from maskgan_jax.models.segmentation_net import create_segmentation_net
from maskgan_jax.training.state import Task, Tree, Variables, hidden, mean_of, to_unit

# How far the colours of a picture are changed at random: the factors of all and of each channel lie between 1 - x and 1 + x.
BRIGHTNESS = 0.4
TINT = 0.15

# The share of the masks that get the print of another picture, and how often that is repeated across the face at most.
PRINTED = 0.5
MOST_REPEATS = 4

# Means over the validation records: intersection over union on the masked faces, the share of the unmasked faces that is taken
# for a mask, and what is missing from a perfect result.
Validation = mean_of("iou", "false_alarm", "error")


def segmentation_loss(logits: jax.Array, region: jax.Array) -> jax.Array:
    """Cross-entropy and soft Dice (Milletari et al. 2016) of logits and regions (1 = hidden), `[B, S, S]`; mean over the batch.

    Cross-entropy alone would care as little for a small mask as for a few pixels of a large one.
    """
    cross_entropy = optax.sigmoid_binary_cross_entropy(logits, region).mean()
    found = jax.nn.sigmoid(logits)
    overlap = 2 * (found * region).sum((1, 2)) + 1.0
    return cross_entropy + (1 - overlap / (found.sum((1, 2)) + region.sum((1, 2)) + 1.0)).mean()


def recoloured(pictures: jax.Array, key: jax.Array) -> jax.Array:
    """Pictures `[B, S, S, 3]` in [-1, 1] under other light: each is brightened or darkened, and tinted, at random."""
    both, each = jax.random.split(key)
    gain = jax.random.uniform(both, (len(pictures), 1, 1, 1), minval=1 - BRIGHTNESS, maxval=1 + BRIGHTNESS)
    tint = jax.random.uniform(each, (len(pictures), 1, 1, 3), minval=1 - TINT, maxval=1 + TINT)
    return jnp.clip((pictures + 1) * gain * tint - 1, -1, 1)


def printed(masked: jax.Array, region: jax.Array, others: jax.Array, key: jax.Array) -> jax.Array:
    """Masked faces some of whose masks are printed with a picture, as no set of patterns that are drawn has them all.

    Args:
      masked: `[B, S, S, 3]` in [-1, 1].
      region: `[B, S, S, 1]`, 1 = hidden.
      others: `[B, S, S, 3]` in [-1, 1]; each mask's print is made of the one of the face before it.
      key: of what is random.
    """
    which, how = jax.random.split(key)
    prints, opacity = jax.vmap(_print)(jnp.roll(others, 1, 0), jax.random.split(how, len(masked)))
    opacity *= region * jax.random.bernoulli(which, PRINTED, (len(masked), 1, 1, 1))
    return masked + opacity * (prints - masked)


def _print(picture: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A print made of a face, `[S, S, 3]`, and its opacity, `[S, S, 1]`, 0 to 1.

    The face is upside down, repeated, moved and of other colours, so that it is no face. Half of the prints are shapes with
    sharp outlines on the plain mask: the bright parts of the face.
    """
    side = len(picture)
    how_often, where, colours, negative, strength, shapes, level = jax.random.split(key, 7)
    across, down = (
        (jnp.arange(side) * jax.random.randint(how_often, (), 1, MOST_REPEATS + 1) + shift) % side
        for shift in jax.random.randint(where, (2,), 0, side)
    )
    picture = picture[::-1][down][:, across][..., jax.random.permutation(colours, 3)]
    picture *= jnp.where(jax.random.bernoulli(negative), -1.0, 1.0)
    brightness = picture.mean(axis=-1, keepdims=True)
    shape = brightness > brightness.mean() + brightness.std() * jax.random.uniform(level, minval=-1.0, maxval=1.5)
    opacity = jnp.where(jax.random.bernoulli(shapes), shape, 1.0)
    return picture, opacity * jax.random.uniform(strength)


def create_task(config: ConfigDict) -> Task:
    """The task 'segmentation'."""
    network = create_segmentation_net(config)

    def init(key: jax.Array) -> tuple[dict[str, Tree], Tree]:
        variables = network.init(key, jnp.zeros((1, config.data.size, config.data.size, 3)))
        return {"segmentation_net": variables["params"]}, variables["batch_stats"]

    def gradients(
        params: dict[str, Tree], batch_stats: Tree, frozen: Tree, batch: Batch, key: jax.Array
    ) -> tuple[dict[str, Tree], Tree, dict[str, jax.Array]]:
        del frozen
        # Every fourth face is shown without its mask.
        bare = (jnp.arange(len(batch["real"])) % 4 == 3)[:, None, None, None]
        print_key, colour_key = jax.random.split(key)
        real = to_unit(batch["real"])
        masked = printed(to_unit(batch["masked"]), hidden(batch), real, print_key)
        pictures = recoloured(jnp.where(bare, real, masked), colour_key)
        region = jnp.where(bare, 0.0, hidden(batch))[..., 0]

        def loss(params):
            variables = {"params": params, "batch_stats": batch_stats}
            logits, updated = network.apply(variables, pictures, train=True, mutable=["batch_stats"])
            return segmentation_loss(logits, region), updated["batch_stats"]

        (value, new_batch_stats), gradient = jax.value_and_grad(loss, has_aux=True)(params["segmentation_net"])
        return {"segmentation_net": gradient}, new_batch_stats, {"segmentation": value}

    def validate(variables: Variables, batch: Batch) -> metrics.Collection:
        found, alarm = (network.apply(variables, to_unit(batch[name])) > 0 for name in ("masked", "real"))
        region = hidden(batch)[..., 0] > 0
        iou = (found & region).sum((1, 2)) / jnp.maximum((found | region).sum((1, 2)), 1)
        false_alarm = alarm.mean((1, 2))
        return Validation.single_from_model_output(
            iou=iou, false_alarm=false_alarm, error=1 - iou + false_alarm, mask=batch["weight"]
        )

    find = jax.jit(lambda variables, pictures: network.apply(variables, to_unit(pictures)) > 0)

    def draw(variables: Variables, batch: Batch) -> np.ndarray:
        """One row a face: masked, the true region in it in green, the one that was found in red, and that without the mask."""
        true = np.asarray(batch["mask"])[..., 0] > 127
        columns = [batch["masked"], _tinted(batch["masked"], true, 1)]
        columns += [_tinted(batch[name], np.asarray(find(variables, batch[name])), 0) for name in ("masked", "real")]
        rows = np.concatenate(columns, axis=2)
        return rows.reshape(-1, *rows.shape[2:])

    return Task("segmentation_net", {}, init, gradients, validate, draw, criterion="error")


def _tinted(pictures: np.ndarray, regions: np.ndarray, channel: int) -> np.ndarray:
    """Pictures `[B, S, S, 3]` with `regions` `[B, S, S]` half covered by one of the primary colours."""
    colour = np.eye(3)[channel] * 255
    return np.where(regions[..., None], (np.asarray(pictures) + colour) / 2, pictures).astype(np.uint8)
