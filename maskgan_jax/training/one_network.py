"""What is common to tasks that train one network, with batch norm, by a loss of its output."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from maskgan_jax.training.state import Task, Tree


class OneNetwork(Task):
    """A task of which `loss` is the only term.

    Attributes:
      size: side of the faces, in pixels.
      module: the network.
    """

    def __init__(self, config: ConfigDict, module: nn.Module):
        """Takes a config, and the network that it describes."""
        self.size, self.module = config.data.size, module
        self.frozen = {}

    def init(self, key: jax.Array) -> tuple[dict[str, Tree], Tree]:
        """Random parameters, and batch norm's statistics."""
        variables = self.module.init(key, jnp.zeros((1, self.size, self.size, 3)))
        return {self.network: variables["params"]}, variables["batch_stats"]

    def gradients_of(
        self, loss: Callable[[jax.Array], jax.Array], images: jax.Array, params: dict[str, Tree], batch_stats: Tree
    ) -> tuple[dict[str, Tree], Tree, dict[str, jax.Array]]:
        """What `gradients` gives, for a loss of what the network makes of `images` `[B, S, S, 3]` in training."""

        def value_of(params: Tree) -> tuple[jax.Array, Tree]:
            variables = {"params": params, "batch_stats": batch_stats}
            output, updated = self.module.apply(variables, images, train=True, mutable=["batch_stats"])
            return loss(output), updated["batch_stats"]

        (value, new_batch_stats), gradient = jax.value_and_grad(value_of, has_aux=True)(params[self.network])
        return {self.network: gradient}, new_batch_stats, {self.loss: value}
