"""What is exported: a trained network as one function of float32 arrays, the same in every format."""

from __future__ import annotations

from collections.abc import Callable

import jax

from maskgan_jax.models.convolutions import compiling_for
from maskgan_jax.networks.stored import StoredNetwork


def exported_function(network: StoredNetwork) -> Callable[..., jax.Array]:
    """What a network does, as a function of float32 arrays, the batch first and channels last.

    `network.description` has the names and shapes of its inputs, in their order, and of its output:
      picture: `[B, S, S, 3]` in [-1, 1]; for a generator that inpaints also `mask` `[B, S, S, 1]`, 1 = hidden.
      unmasked: `[B, S, S, 3]` in [-1, 1]; or `landmarks` `[B, 68, 2]` in pixels, or `likelihood` `[B, S, S]`, 0 to 1.

    Dropout is off and statistics are fixed.
    """
    module, variables, activation = network.module, network.variables, network.description.kind.activation

    def function(*inputs: jax.Array) -> jax.Array:
        # XLA's own convolutions, which are right everywhere; ours for CPUs are for one size of batch.
        with compiling_for("gpu"):
            return activation(module.apply(variables, *inputs))

    return function
