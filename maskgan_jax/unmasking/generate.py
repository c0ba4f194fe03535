"""A trained generator as a function from pictures to pictures."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from maskgan_jax.errors import UserError
from maskgan_jax.models.stored import load_network
from maskgan_jax.training.state import to_levels, to_unit


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
        self._run = jax.jit(lambda variables, masked: to_levels(self.generator.apply(variables, to_unit(masked))))
        # What concerns the kernels alone is computed once; of the parameters, the rest is then used.
        prepare = jax.jit(lambda variables, masked: self.generator.apply(variables, masked, mutable=["prepared"])[1])
        pictures = np.zeros((batch_size, self.size, self.size, 3), np.float32)
        self.variables = jax.device_put({**variables, **prepare(variables, pictures)})

    def __call__(self, masked: np.ndarray) -> np.ndarray:
        """Unmasked faces for aligned masked ones: `[B, size, size, 3]` uint8 to the same; any B from 1 to `batch_size`.

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
        return np.asarray(self._run(self.variables, batch))[: len(masked)]
