"""What is exported: a trained network as one function of float32 arrays, the same in every format."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from maskgan_jax.models.convolutions import compiling_for
from maskgan_jax.networks.stored import StoredNetwork


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
    return Signature(
        *(
            {name: (None, *shape) for name, shape in shapes.items()}
            for shapes in (network.description.inputs(), network.description.output())
        )
    )


def exported_function(network: StoredNetwork) -> Callable[..., jax.Array]:
    """The function of the inputs that `signature` names, in their order, in float32.

    Dropout is off and statistics are fixed.
    """
    module, variables, activation = network.module, network.variables, network.description.kind.activation

    def function(*inputs: jax.Array) -> jax.Array:
        # XLA's own convolutions, which are right everywhere; ours for CPUs are for one size of batch.
        with compiling_for("gpu"):
            return activation(module.apply(variables, *inputs))

    return function
