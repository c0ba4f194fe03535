"""What is exported: a trained network as one function of float32 arrays, the same in every format."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from maskgan_jax.models.convolutions import compiling_for
from maskgan_jax.networks.stored import StoredNetwork

# What the output of each kind of network is called.
OUTPUTS = {"unmask": "unmasked", "landmarks": "landmarks", "segmentation": "likelihood"}


class Signature(NamedTuple):
    """Names and shapes of what a network takes and gives; `None` stands for the batch.

    Attributes:
      inputs: `picture` `[B, S, S, 3]` in [-1, 1]; for a generator that inpaints also `mask` `[B, S, S, 1]`, 1 = hidden.
      output: `unmasked` `[B, S, S, 3]` in [-1, 1], `landmarks` `[B, 68, 2]` in pixels or `likelihood` `[B, S, S]`, 0 to 1.
    """

    inputs: dict[str, tuple[int | None, ...]]
    output: dict[str, tuple[int | None, ...]]


def signature(network: StoredNetwork) -> Signature:
    """What a network takes and gives, all float32, channels last."""
    side, task = network.config.data.size, network.config.task
    inputs = {"picture": (None, side, side, 3)}
    if task == "unmask" and network.config.generator.inpaints:
        inputs["mask"] = (None, side, side, 1)
    shapes = {"unmask": (None, side, side, 3), "landmarks": (None, 68, 2), "segmentation": (None, side, side)}
    return Signature(inputs, {OUTPUTS[task]: shapes[task]})


def exported_function(network: StoredNetwork) -> Callable[..., jax.Array]:
    """The function of the inputs that `signature` names, in their order, in float32.

    Dropout is off and statistics are fixed.
    """
    module, variables = network.module.clone(dtype=jnp.float32), network.variables

    def function(*inputs: jax.Array) -> jax.Array:
        # XLA's own convolutions, which are right everywhere; ours for CPUs are for one size of batch.
        with compiling_for("gpu"):
            output = module.apply(variables, *inputs)
        return jax.nn.sigmoid(output) if network.config.task == "segmentation" else output

    return function
