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

# The share of the masks that get the print of another picture, and how strongly at most.
PRINTED = 0.3
STRONGEST_PRINT = 0.9

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

    The prints are of the next face in the batch, upside down, moved and with its colours exchanged, so that they are no faces.

    Args:
      masked: `[B, S, S, 3]` in [-1, 1].
      region: `[B, S, S, 1]`, 1 = hidden.
      others: `[B, S, S, 3]` in [-1, 1], the pictures that are printed.
      key: of what is random.
    """
    which, how, where, colours, negative = jax.random.split(key, 5)
    count, side = len(masked), masked.shape[1]
    shifts = jax.random.randint(where, (count, 2), 0, side)
    pictures = jax.vmap(lambda picture, shift: jnp.roll(picture[::-1], shift, (0, 1)))(jnp.roll(others, 1, 0), shifts)
    order = jax.vmap(lambda key: jax.random.permutation(key, 3))(jax.random.split(colours, count))
    pictures = jnp.take_along_axis(pictures, order[:, None, None, :], axis=-1)
    pictures *= jnp.where(jax.random.bernoulli(negative, 0.5, (count, 1, 1, 1)), -1.0, 1.0)
    strength = jax.random.uniform(how, (count, 1, 1, 1), maxval=STRONGEST_PRINT)
    strength *= jax.random.bernoulli(which, PRINTED, (count, 1, 1, 1))
    return masked + region * strength * (pictures - masked)


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
