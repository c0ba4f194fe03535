"""A trained generator as a function from pictures to pictures."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from maskgan_jax.errors import UserError
from maskgan_jax.models.stored import load_network
from maskgan_jax.training.state import Variables, to_levels, to_unit


class Unmasker:
    """A trained generator. The same picture always gives the same result: dropout is off and statistics are fixed.

    Attributes:
      size: side of the faces it takes, in pixels.
      batch_size: faces that go through it at once.
      generator: the network.
      variables: what it is applied to: its variables, and its kernels as they were prepared for this size and batch.
    """

    def __init__(self, weights: str | Path, batch_size: int = 8):
        """Loads the network from the workdir of a run or from an exported file.

        Raises:
          UserError: there is no such network there.
        """
        config, self.generator, variables = load_network(weights, "unmask")
        self.size: int = config.data.size
        self.batch_size = batch_size

        def run(variables: Variables, masked: jax.Array, masks: jax.Array) -> jax.Array:
            region = (masks > 127).astype(jnp.float32)
            return to_levels(self.generator.apply(variables, to_unit(masked), region))

        self._run = jax.jit(run)
        # What concerns the kernels alone is computed once; of the parameters, the rest is then used.
        prepare = jax.jit(lambda variables, *inputs: self.generator.apply(variables, *inputs, mutable=["prepared"])[1])
        pictures = np.zeros((batch_size, self.size, self.size, 3), np.float32)
        self.variables = jax.device_put({**variables, **prepare(variables, pictures, pictures[..., :1])})

    def __call__(self, masked: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        """Unmasked faces for aligned masked ones: `[B, size, size, 3]` uint8 to the same; any B from 1 to `batch_size`.

        Args:
          masked: the faces.
          masks: their regions, `[B, size, size, 1]` uint8, above 127 = hidden; a network that inpaints needs them.

        Raises:
          UserError: the faces are of another size.
        """
        if masked.shape[1:] != (self.size, self.size, 3):
            raise UserError(
                f"the network takes faces of {self.size} px, not {masked.shape[2]} x {masked.shape[1]}; use one for that size"
            )
        # Always the same shape, so that a last, shorter batch is not compiled anew.
        batch = np.zeros((self.batch_size, *masked.shape[1:]), np.uint8)
        batch[: len(masked)] = masked
        regions = np.zeros((*batch.shape[:3], 1), np.uint8)
        if masks is not None:
            regions[: len(masks)] = masks
        return np.asarray(self._run(self.variables, batch, regions))[: len(masked)]
