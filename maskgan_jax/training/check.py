"""What a run needs, found by shapes alone (`maskgan train --check`): nothing is compiled, and no data set is read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.roofline import roofline
from ml_collections import ConfigDict

from maskgan_jax.models.convolutions import compiling_for
from maskgan_jax.models.generators import create_generator
from maskgan_jax.networks.description import KINDS, kind_of
from maskgan_jax.networks.safetensors import save_untrained
from maskgan_jax.runtime.chips import Chip
from maskgan_jax.training.abstract import STEPS, abstract_step, bytes_of, count_flops
from maskgan_jax.training.mesh import create_mesh
from maskgan_jax.training.state import Task
from maskgan_jax.training.step import train_step
from maskgan_jax.training.tasks import create_task


def check(config: ConfigDict, devices: int, chip: Chip | None = None) -> dict[str, Any]:
    """What each of `devices` accelerators has to hold, to compute and to send in one training step.

    Args:
      config: of the run.
      devices: how many divide a batch among themselves.
      chip: what they are, if it is known.

    Returns:
      What `lines_of` prints. Sizes are in bytes and for one device:
        state: parameters, Adam's moments, moving average; divided by `training.fsdp`.
        frozen: networks that the losses look through.
        batch: the device's part of it.
        memory: all that lies in memory at the step's fullest moment, by jax.experimental.roofline, which fuses nothing.
        flops: of the step, see `count_flops`.
        flops_roofline: the same by jax.experimental.roofline.
        reduced: gradients that are summed over all devices.
        gathered: parameters that come from other devices (`training.fsdp`).

    Raises:
      UserError: the config names weights that are not there, or a batch cannot be divided so.
    """
    task = task_of_shapes(config)
    mesh = create_mesh(config, devices)
    _, (state, frozen, batch, _) = abstract_step(task, config, mesh)
    parameters = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in state.params.items()}
    itemsize = jnp.dtype(config.training.compute).itemsize
    gathered = [leaf for leaf in jax.tree.leaves(state.params) if not leaf.sharding.is_fully_replicated]

    # All that one device computes at once, as a run of its own. The parts of a batch (optimizer.accumulate) have the same
    # arithmetic as the whole, and their gradients are added up.
    part = config.copy_and_resolve_references()
    part.optimizer.accumulate = part.training.fsdp = 1
    part.input.batch_size = config.input.batch_size // devices // config.optimizer.accumulate
    _, arguments = abstract_step(task, part, create_mesh(part, 1))
    with compiling_for("tpu"):  # The same formulations as for GPUs.
        _, drawn = roofline(partial(train_step, task, part, STEPS))(*jax.tree.map(_without_sharding, arguments))
    whole = bytes_of(arguments[0])
    sums = bytes_of(arguments[0].params) if config.optimizer.accumulate > 1 else 0
    return {
        "devices": devices,
        "chip": chip.name if chip else "",
        "chip_memory": chip.memory if chip else 0,
        "global_batch": config.input.batch_size,
        "batch_per_device": config.input.batch_size // devices,
        "parameters": parameters,
        "state": bytes_of(state),
        "frozen": bytes_of(frozen),
        "batch": bytes_of(batch),
        "memory": drawn.peak_hbm_bytes - whole + bytes_of(state) + sums,
        "flops": count_flops(task, part) * config.optimizer.accumulate,
        "flops_roofline": drawn.unfused_flops * config.optimizer.accumulate,
        "reduced": itemsize * sum(parameters.values()) if devices > 1 else 0,
        "gathered": itemsize * sum(leaf.size for leaf in gathered),
    }


def lines_of(report: dict[str, Any]) -> Iterator[str]:
    """The report for people."""
    devices, each = report["devices"], report["batch_per_device"]
    kind = f" ({report['chip']})" if report["chip"] else ""
    yield f"devices: {devices}{kind}, each with {each} of the {report['global_batch']} images of a batch"
    yield "parameters: " + ", ".join(f"{name} {count:,}" for name, count in report["parameters"].items())
    parts = ", ".join(f"{name} {_gib(report[name])}" for name in ("state", "frozen", "batch"))
    room = f" of {_gib(report['chip_memory'])}" if report["chip_memory"] else ""
    yield f"memory of a device: about {_gib(report['memory'])}{room} GiB ({parts}; the rest is activations and gradients)"
    flops = report["flops"]
    yield f"arithmetic of a device: {flops / 1e12:.4g} TFLOP a step, {flops / each / 1e9:.4g} GFLOP an image"
    sent = [f"{report['reduced'] / 1e6:.4g} MB of gradients are summed over all devices"] if report["reduced"] else []
    sent += [f"{report['gathered'] / 1e6:.4g} MB of parameters are gathered (training.fsdp)"] if report["gathered"] else []
    yield f"traffic in a step: {'; '.join(sent) or 'none'}"


def task_of_shapes(config: ConfigDict) -> Task:
    """The task of a config; networks that it needs and does not name are of zeros: their values are not compiled in.

    Raises:
      UserError: there is no such task, or the config names weights that are not there.
    """
    kind_of(config.task)  # There is one.
    needed = []
    if config.task == "unmask":
        needed = ["landmarks"] if config.losses.contour else []
        needed += getattr(create_generator(config), "parts", {}).values()
    config = config.copy_and_resolve_references()
    with tempfile.TemporaryDirectory() as folder:
        for task in needed:
            section = config[KINDS[task].network]
            if not section.weights:
                section.weights = str(Path(folder, f"{task}.safetensors"))
                save_untrained(section.weights, config, task)
        return create_task(config)


def _without_sharding(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g}"
