"""Devices: one mesh over all of them, batches divided among them, parameters on each."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from maskgan_jax.data.pipeline import Batch
from maskgan_jax.errors import UserError


def create_mesh(batch_size: int) -> Mesh:
    """A mesh of all devices of all processes, with the one axis 'data'.

    Raises:
      UserError: `batch_size` cannot be divided among the devices.
    """
    count = jax.device_count()
    if batch_size % count:
        raise UserError(f"a batch of {batch_size} cannot be divided among {count} devices; set input.batch_size to a multiple")
    return jax.make_mesh((count,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole: parameters, optimiser state, keys."""
    return NamedSharding(mesh, P())


def shard_batch(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's share of a batch (NumPy, records first) onto its devices: global arrays, divided along 'data'."""
    sharding = NamedSharding(mesh, P("data"))
    return {name: jax.make_array_from_process_local_data(sharding, np.asarray(array)) for name, array in batch.items()}
