"""A trained network as StableHLO: one file for CPUs, GPUs and TPUs, which JAX alone can run."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.export  # Not part of `import jax`.
import jax.numpy as jnp

from maskgan_jax.export.functions import exported_function
from maskgan_jax.files import replacing
from maskgan_jax.networks.stored import StoredNetwork

PLATFORMS = ("cpu", "cuda", "tpu")


def save_stablehlo(path: str | Path, network: StoredNetwork, batch: int | None = None) -> None:
    """Writes `network` as a serialised `jax.export.Exported`, its weights included.

    Args:
      path: the file.
      network: what to export; `exported_function` tells what the file takes and gives.
      batch: a fixed batch, or None for any.

    Raises:
      UserError: the file cannot be written.
    """
    first = batch or jax.export.symbolic_shape("batch")[0]
    inputs = [jax.ShapeDtypeStruct((first, *shape), jnp.float32) for shape in network.description.inputs().values()]
    exported = jax.export.export(jax.jit(exported_function(network)), platforms=PLATFORMS)(*inputs)
    with replacing(path) as temporary:
        temporary.write_bytes(exported.serialize())
