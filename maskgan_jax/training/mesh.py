"""Devices: one mesh over all of them, batches divided among them, the state whole on each or divided too."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from maskgan_jax.errors import UserError
from maskgan_jax.images import Batch
from maskgan_jax.training.state import Gradients, Tree

# Arrays with fewer elements are whole on every device. Gathering them would cost more time than sharding saves memory.
MIN_SHARDED_SIZE = 4096


def create_mesh(config: ConfigDict, devices: Sequence[jax.Device] | int | None = None) -> Mesh | AbstractMesh:
    """A mesh of all devices of all processes with the axes 'data' and 'fsdp'; 'fsdp' has `training.fsdp` devices.

    Batches are divided along both axes, the state along 'fsdp' alone (see `fsdp_shardings`).

    Args:
      config: `input.batch_size`, `optimizer.accumulate` and `training.fsdp` are read.
      devices: in place of all there are; a number for so many that need not be there, for shapes alone.

    Raises:
      UserError: a batch, or what goes through the networks of it at once, or the devices cannot be divided so.
    """
    count = devices if isinstance(devices, int) else len(devices or jax.devices())
    parts = config.optimizer.accumulate
    if config.input.batch_size % (count * parts):
        of_parts = f" in {parts} parts (optimizer.accumulate)" if parts > 1 else ""
        raise UserError(
            f"a batch of {config.input.batch_size} cannot be divided among {count} devices{of_parts}; set input.batch_size to "
            f"a multiple of {count * parts}"
        )
    fsdp = config.training.fsdp
    if count % fsdp:
        raise UserError(f"{count} devices cannot be divided into groups of {fsdp}; set training.fsdp to a divisor of {count}")
    shape, names, axis_types = (count // fsdp, fsdp), ("data", "fsdp"), (jax.sharding.AxisType.Auto,) * 2
    if isinstance(devices, int):
        return AbstractMesh(shape, names, axis_types=axis_types)
    return jax.make_mesh(shape, names, axis_types=axis_types, devices=devices)


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, P())


def fsdp_shardings(mesh: Mesh | AbstractMesh, shapes: Tree) -> Tree:
    """The shardings of parameters and of all trees of their shapes (gradients, optimizer state, moving average).

    Of each array, the largest axis that 'fsdp' divides is divided along it (ZeRO, Rajbhandari et al. 2020); small arrays, and
    all where 'fsdp' is one device, are whole everywhere.

    Args:
      mesh: of `create_mesh`.
      shapes: a tree of arrays, or of what `jax.eval_shape` gives for them.
    """
    count = mesh.shape["fsdp"]

    def sharding(array: jax.ShapeDtypeStruct) -> NamedSharding:
        axes = [axis for axis, length in enumerate(array.shape) if length % count == 0]
        if count == 1 or array.size < MIN_SHARDED_SIZE or not axes:
            return replicated(mesh)
        largest = max(axes, key=lambda axis: array.shape[axis])
        return NamedSharding(mesh, P(*[None] * largest, "fsdp"))

    return jax.tree.map(sharding, shapes)


def divide_gradients(gradients_of: Gradients, mesh: Mesh) -> Gradients:
    """`Task.gradients` with the parameters gathered before, and the gradients divided after, as `fsdp_shardings` says.

    Left to itself, the compiler also divides convolutions as their parameters are, and sends activations around.
    """
    if mesh.shape["fsdp"] == 1:
        return gradients_of

    def gradients(
        params: dict[str, Tree], batch_stats: Tree, frozen: Tree, batch: Batch, key: jax.Array
    ) -> tuple[dict[str, Tree], Tree, dict[str, jax.Array]]:
        gathered = jax.lax.with_sharding_constraint((params, batch_stats), replicated(mesh))
        gradients, *rest = gradients_of(*gathered, frozen, batch, key)
        return jax.lax.with_sharding_constraint(gradients, fsdp_shardings(mesh, gradients)), *rest

    return gradients


def batch_sharding(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The sharding of batches: each device has as many records as every other, and none that another has."""
    return NamedSharding(mesh, P(mesh.axis_names))


def shard_batch(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's share of a batch (NumPy, records first) onto its devices; gives the global arrays."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, np.asarray(array)) for name, array in batch.items()}
