"""What a training run carries from step to step, what makes a task, and the parts that all tasks share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics

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
      ema: moving average of the variables of the network whose results count; empty if it is turned off.
    """

    step: jax.Array
    params: dict[str, Tree]
    batch_stats: Tree
    optimizer: dict[str, Tree]
    ema: Tree


@dataclasses.dataclass(frozen=True)
class Task:
    """What training needs to know of a task ('unmask', 'landmarks' or 'segmentation').

    Attributes:
      network: name of the network whose results count, among those that are trained.
      frozen: variables of networks that are used but not trained, by name.
      init: random key -> parameters of each network by its name, and the `batch_stats` of `network`.
      gradients: (params, batch_stats, frozen, batch, key) -> gradients in `params`, new `batch_stats`, terms of the loss by
        name; all are means over the batch. Pure; it is jitted as a part of the training step.
      validate: (variables, batch) -> `clu` metrics of one batch. Pure; the loop jits it.
      draw: (variables, batch) -> a picture for people, `[H, W, 3]` uint8.
      criterion: the validation metric whose smallest value makes a checkpoint the best.
    """

    network: str
    frozen: Tree
    init: Callable[[jax.Array], tuple[dict[str, Tree], Tree]]
    gradients: Callable[[dict[str, Tree], Tree, Tree, Batch, jax.Array], tuple[dict[str, Tree], Tree, dict[str, jax.Array]]]
    validate: Callable[[Variables, Batch], metrics.Collection]
    draw: Callable[[Variables, Batch], np.ndarray]
    criterion: str

    def variables(self, params: dict[str, Tree], batch_stats: Tree) -> Variables:
        """The variables of the network whose results count, of all parameters and the statistics of its batch norm."""
        return {"params": params[self.network], "batch_stats": batch_stats}

    def results(self, state: TrainState) -> Variables:
        """Those variables; the moving average of them, if there is one."""
        # Of the statistics too: those of the latest weights do not fit averaged ones.
        return state.ema or self.variables(state.params, state.batch_stats)


def mean_of(*names: str) -> type[metrics.Collection]:
    """A collection of means of what a step puts out under `names`."""
    return metrics.Collection.create(**{name: metrics.Average.from_output(name) for name in names})


def hidden(batch: Batch) -> jax.Array:
    """The region of each record, `[B, S, S, 1]` float32: 1 = hidden, 0 = not."""
    return (batch["mask"] > 127).astype(jnp.float32)


def to_unit(pictures: jax.Array) -> jax.Array:
    """uint8 pictures to float32 in [-1, 1]."""
    return pictures.astype(jnp.float32) / 127.5 - 1.0


def to_levels(pictures: jax.Array) -> jax.Array:
    """Pictures in [-1, 1] to the uint8 that a saved file holds."""
    return jnp.clip(jnp.round((pictures + 1.0) * 127.5), 0, 255).astype(jnp.uint8)


def put_back(generated: jax.Array, masked: jax.Array, mask: jax.Array) -> jax.Array:
    """The generated picture inside the region, the known pixels outside; `mask` is 255 where hidden. All uint8."""
    return jnp.where(mask > 127, generated, masked)
