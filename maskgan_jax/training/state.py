"""What a training run carries from step to step, and the parts that both tasks share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics
from ml_collections import ConfigDict

from maskgan_jax.data.pipeline import Batch

Tree = Any  # A pytree of arrays.
Variables = dict[str, Tree]  # `params` and, with batch norm, `batch_stats`, as `Module.apply` takes them.


@flax.struct.dataclass
class TrainState:
    """The state of a run; a new one each step, in the old one's memory.

    Attributes:
      step: steps done, int32.
      params: parameters of each network that is trained, by the network's name.
      batch_stats: running statistics of batch norm in the network whose results count; empty without batch norm.
      optimizer: the optimiser's state for each network, by its name.
      ema: moving average of the parameters of the network whose results count; empty if it is turned off.
    """

    step: jax.Array
    params: dict[str, Tree]
    batch_stats: Tree
    optimizer: dict[str, Tree]
    ema: Tree


@dataclasses.dataclass(frozen=True)
class Task:
    """What the training loop needs to know of a task ('unmask' or 'landmarks').

    Attributes:
      frozen: variables of networks that are used but not trained.
      init: makes the first state from a random key.
      train_step: (state, frozen, batch, key) -> (next state, terms of the loss by name). Pure; the loop jits it.
      results: the variables of the network whose results count, out of a state.
      validate: (variables, batch) -> `clu` metrics of one batch. Pure; the loop jits it.
      draw: (variables, batch) -> a picture for people, `[H, W, 3]` uint8.
      criterion: the validation metric whose smallest value makes a checkpoint the best.
    """

    frozen: Tree
    init: Callable[[jax.Array], TrainState]
    train_step: Callable[[TrainState, Tree, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]]
    results: Callable[[TrainState], Variables]
    validate: Callable[[Variables, Batch], metrics.Collection]
    draw: Callable[[Variables, Batch], np.ndarray]
    criterion: str


def create_optimizer(config: ConfigDict, steps: int) -> optax.GradientTransformation:
    """Adam with a rate that is constant for a share of the `steps` and then falls linearly to 0, as in pix2pix."""
    settings = config.optimizer
    constant = round(settings.constant * steps)
    rate = optax.join_schedules(
        [
            optax.constant_schedule(settings.learning_rate),
            optax.linear_schedule(settings.learning_rate, 0.0, max(1, steps - constant)),
        ],
        [constant],
    )
    return optax.adam(rate, b1=settings.b1, b2=settings.b2)


def mean_of(*names: str) -> type[metrics.Collection]:
    """A collection of means of what a step puts out under `names`."""
    return metrics.Collection.create(**{name: metrics.Average.from_output(name) for name in names})


def average(ema: Tree, params: Tree, decay: float) -> Tree:
    """One step of the exponential moving average; an empty one stays empty."""
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, ema, params) if decay else ema


def to_unit(pictures: jax.Array) -> jax.Array:
    """uint8 pictures to float32 in [-1, 1]."""
    return pictures.astype(jnp.float32) / 127.5 - 1.0


def to_levels(pictures: jax.Array) -> jax.Array:
    """Pictures in [-1, 1] to the uint8 that a saved file holds."""
    return jnp.clip(jnp.round((pictures + 1.0) * 127.5), 0, 255).astype(jnp.uint8)


def put_back(generated: jax.Array, masked: jax.Array, mask: jax.Array) -> jax.Array:
    """The generated picture inside the region, the known pixels outside; `mask` is 255 where hidden. All uint8."""
    return jnp.where(mask > 127, generated, masked)
