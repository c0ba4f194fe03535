"""Trained networks as functions from aligned faces to NumPy arrays."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

from maskgan_jax.errors import UserError
from maskgan_jax.images import binary_mask, normalize
from maskgan_jax.networks.description import Variables
from maskgan_jax.networks.stored import load_network

# Of the networks that come with the package, each in NAME.safetensors.
PRETRAINED = Path(str(importlib.resources.files("maskgan_jax"))) / "pretrained"


def pretrained(name: str) -> Path:
    """The file of a network that comes with the package: 'unmask', 'unmask_fast', 'landmarks' or 'segmentation'.

    Raises:
      UserError: the package was installed without it.
    """
    path = PRETRAINED / f"{name}.safetensors"
    if not path.is_file():
        raise UserError(f"{path}, the network that comes with maskgan_jax, is missing; install it again, or give --weights")
    return path


class FaceNetwork:
    """A trained network, in float32. The same image always gives the same result: dropout is off and statistics are fixed.

    Attributes:
      size: side of the faces it takes, in pixels.
      zoom: of their squares, as in `data.zoom`.
      inpaints: whether it is a generator that must be told the masks.
      batch_size: faces that go through it at once.
      parameters: how many weights it has.
      module: the network.
      variables: what it is applied to: its variables, and its kernels as they were prepared for this size and batch.
    """

    def __init__(self, path: str | Path, task: str, batch_size: int = 8):
        """Loads the network for a task ('unmask', 'landmarks', 'segmentation') from a workdir of a run or an exported file.

        Raises:
          UserError: there is no such network there, or its weights are not all finite.
        """
        description, self.module, variables, _ = load_network(path, task)
        self.size = description.size
        self.zoom = description.zoom
        self.inpaints = description.inpaints
        self.batch_size = batch_size
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        kind = description.kind

        def run(variables: Variables, images: jax.Array, *masks: jax.Array) -> jax.Array:
            output = self.module.apply(variables, normalize(images), *map(binary_mask, masks))
            return kind.result(kind.activation(output))

        self._run = jax.jit(run)
        # What concerns the kernels alone is computed once; of the parameters, the rest is then used.
        prepare = jax.jit(lambda variables, *inputs: _prepared(self.module, variables, *inputs))
        inputs = [np.zeros((batch_size, *shape), np.float32) for shape in description.inputs().values()]
        self.variables = jax.device_put({**variables, **prepare(variables, *inputs)})

    def __call__(self, images: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        """What the network makes of aligned faces, in the order given.

        Args:
          images: `[B, size, size, 3]` RGB, uint8; any B.
          masks: `[B, size, size, 1]` uint8, above 127 = hidden; read by a generator that inpaints, which needs them.

        Returns:
          Of a generator unmasked faces, `[B, size, size, 3]` uint8; of a landmark network points `[B, 68, 2]` float32, (x, y)
          in pixels; of a segmentation network for each pixel how likely it is hidden, `[B, size, size]` float32, 0 to 1.

        Raises:
          UserError: the faces are of another size, or the masks are missing.
        """
        if images.shape[1:] != (self.size, self.size, 3):
            raise UserError(
                f"the network takes faces of {self.size} px, not {images.shape[2]} x {images.shape[1]}; use one for that size"
            )
        if self.inpaints and masks is None:
            raise UserError("this network must be told the mask of each face; give the masks too")
        inputs = (images, masks) if self.inpaints else (images,)
        results = []
        for start in range(0, len(images), self.batch_size):
            parts = [array[start : start + self.batch_size] for array in inputs]
            # Always the same shape, so that a last, shorter batch is not compiled anew.
            missing = self.batch_size - len(parts[0])
            padded = [np.pad(part, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else part for part in parts]
            results.append(np.asarray(self._run(self.variables, *padded))[: len(parts[0])])
        return np.concatenate(results)


def _prepared(module: nn.Module, variables: Variables, *inputs: jax.Array) -> Variables:
    return module.apply(variables, *inputs, mutable=["prepared"])[1]
