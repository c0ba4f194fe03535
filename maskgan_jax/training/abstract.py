"""The training step by shapes alone, without data, parameters or devices."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from ml_collections import ConfigDict

from maskgan_jax.errors import UserError
from maskgan_jax.models.convolutions import compiling_for
from maskgan_jax.training.mesh import batch_sharding, create_mesh, fsdp_shardings, replicated
from maskgan_jax.training.state import Task, Tree
from maskgan_jax.training.step import create_state, train_step

# Length of the run; only a constant in the program.
STEPS = 100_000


def abstract_step(task: Task, config: ConfigDict, mesh: Mesh | AbstractMesh) -> tuple[jax.stages.Wrapped, tuple]:
    """The training step, jitted as `training.loop` does it, and shapes, types and shardings of its arguments.

    These are the state, the frozen networks, a batch and the run's random key.
    """

    def placed(tree: Tree, shardings: Tree) -> Tree:
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree, shardings
        )

    def alike(tree: Tree, sharding: NamedSharding) -> Tree:
        return placed(tree, jax.tree.map(lambda _: sharding, tree))

    key = jax.eval_shape(partial(jax.random.key, 0))
    state = jax.eval_shape(partial(create_state, task, config, STEPS), key)
    frozen = jax.eval_shape(lambda: task.frozen)
    count, side = config.input.batch_size, config.data.size
    batch = {
        "real": jax.ShapeDtypeStruct((count, side, side, 3), jnp.uint8),
        "masked": jax.ShapeDtypeStruct((count, side, side, 3), jnp.uint8),
        "mask": jax.ShapeDtypeStruct((count, side, side, 1), jnp.uint8),
        "landmarks": jax.ShapeDtypeStruct((count, 68, 2), jnp.float32),
    }
    on_all, shardings = replicated(mesh), fsdp_shardings(mesh, state)
    step = jax.jit(partial(train_step, task, config, STEPS, mesh=mesh), donate_argnums=0, out_shardings=(shardings, on_all))
    return step, (
        placed(state, shardings),
        alike(frozen, on_all),
        alike(batch, batch_sharding(mesh)),
        alike(key, on_all),
    )


def count_flops(task: Task, config: ConfigDict) -> float:
    """FLOPs of a step, of all devices together, as XLA counts them before it optimizes.

    Two for each multiply-add of a convolution or product, one for each number that anything else gives. They are counted as for
    accelerators on all backends, also where a CPU takes a formulation with less arithmetic.

    Raises:
      UserError: JAX_PLATFORMS leaves out the CPU, see `counting_device`.
    """
    whole = config.copy_and_resolve_references()
    # Parts of a batch have the same arithmetic, but XLA counts a loop as if it ran once.
    whole.optimizer.accumulate = whole.training.fsdp = 1
    step, arguments = abstract_step(task, whole, create_mesh(whole, [counting_device()]))
    with compiling_for("tpu"):
        return step.trace(*arguments).lower(lowering_platforms=("tpu",)).cost_analysis()["flops"]


def counting_device() -> jax.Device:
    """The CPU, whose client counts FLOPs for any platform; that of an accelerator cannot.

    Raises:
      UserError: JAX_PLATFORMS leaves it out.
    """
    jax.devices()  # Outside the block below: devices that JAX cannot use at all are another fault.
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        platforms = jax.config.jax_platforms
        raise UserError(
            f"the CPU counts FLOPs, and JAX_PLATFORMS={platforms} leaves it out; set JAX_PLATFORMS={platforms},cpu"
        ) from error


def bytes_of(tree: Tree) -> int:
    """What one device holds of a tree of shapes with shardings."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
