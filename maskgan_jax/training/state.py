"""What a training run carries from step to step, and what it needs to know of what is trained."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import numpy as np
from clu import metrics

from maskgan_jax.images import Batch
from maskgan_jax.networks.description import Variables

Tree = Any  # A pytree of arrays.
# What `Task.gradients` is.
Gradients = Callable[[dict[str, Tree], Tree, Tree, Batch, jax.Array], tuple[dict[str, Tree], Tree, dict[str, jax.Array]]]


@flax.struct.dataclass
class TrainState:
    """The state of a run; a new one each step, in the old one's memory.

    Attributes:
      step: steps done, int32.
      params: parameters of each network that is trained, by the network's name.
      batch_stats: running statistics of batch norm in the network whose results count; empty without batch norm.
      optimizer: the optimizer's state for each network, by its name.
      ema: moving average of the variables of the network whose results count; empty if it is turned off.
    """

    step: jax.Array
    params: dict[str, Tree]
    batch_stats: Tree
    optimizer: dict[str, Tree]
    ema: Tree


class Task(abc.ABC):
    """What is trained: the networks, their loss, its gradients, and how well they do.

    Attributes:
      network: name of the network whose results count, among those that are trained.
      sections: of the config, those that only this task reads.
      loss: the term that tells best how training goes.
      criterion: the validation metric whose smallest value makes a checkpoint the best.
      frozen: variables of networks that are used but not trained, by name.
      joins: fractions of the run before which networks get no gradients, by their names; 0 for those without one.
    """

    network: str
    sections: tuple[str, ...]
    loss: str
    criterion: str
    frozen: Tree
    joins: Mapping[str, float] = {}

    @abc.abstractmethod
    def init(self, key: jax.Array) -> tuple[dict[str, Tree], Tree]:
        """Random parameters of each network by its name, and the `batch_stats` of `network`."""

    @abc.abstractmethod
    def gradients(
        self, params: dict[str, Tree], batch_stats: Tree, frozen: Tree, batch: Batch, key: jax.Array
    ) -> tuple[dict[str, Tree], Tree, dict[str, jax.Array]]:
        """Gradients in `params`, new `batch_stats`, and terms of the loss by name; all are means over the batch.

        Pure: it is jitted as a part of the training step. Beside what `Batch` names, `batch` has `number` `[B]`, which
        counts the records of the whole batch, of which these may be a part; and `progress`, the fraction of the run that is
        done.
        """

    @abc.abstractmethod
    def validate(self, variables: Variables, batch: Batch) -> metrics.Collection:
        """Metrics of one batch of `evaluation_batches`. Pure; the loop jits it."""

    @abc.abstractmethod
    def draw(self, variables: Variables, batch: Batch) -> np.ndarray:
        """An image for people, `[H, W, 3]` uint8."""

    def first(self) -> Variables | None:
        """The variables of `network` that a run begins with; None for random ones."""
        return None

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
