"""Trained networks on disk: the folder of a run, or one exported file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from maskgan_jax.errors import UserError
from maskgan_jax.networks.description import Description, Variables, describe
from maskgan_jax.networks.safetensors import load_safetensors, read_header
from maskgan_jax.run_files import CHECKPOINTS, CONFIG
from maskgan_jax.storage import is_remote, is_step, path_of, reaching, steps_in


class StoredNetwork(NamedTuple):
    """A trained network: its description, its module (float32), its variables (NumPy), and the config of its training."""

    description: Description
    module: nn.Module
    variables: Variables
    config: dict[str, Any]


def read_description(path: str | Path) -> tuple[Description, dict[str, Any]]:
    """The description of a network and its config, as saved.

    Args:
      path: the workdir of a training run or one of its checkpoints (`checkpoints/STEP`), both perhaps in a bucket, or a
        .safetensors file.

    Raises:
      UserError: there is no network, or one that was exported for other programs; or the bucket cannot be reached.
    """
    with reaching(path):
        return _read_description(path_of(path))


def _read_description(path: Path | epath.Path) -> tuple[Description, dict[str, Any]]:
    if not path.exists():
        raise UserError(
            f"there is no network at {path}; give the workdir of a `maskgan train` run or an exported .safetensors file"
        )
    if (path / "variables").is_dir():  # Orbax's and TensorFlow's have it, and no run.
        raise UserError(
            f"{path} is an export for other programs; give the workdir of a `maskgan train` run, or a file made by "
            "`maskgan export --format=safetensors`"
        )
    if not path.is_dir():
        if is_remote(path):
            raise UserError(f"{path} is a file in a bucket; copy it to a disk, and give that file")
        return read_header(path)
    saved = (workdir_of(path) or path) / CONFIG
    try:
        config = json.loads(saved.read_text(encoding="utf-8"))
        return describe(config), config
    except OSError as error:
        reason = error.strerror or "it is not there"  # In a bucket.
        raise UserError(f"cannot read {saved} ({reason}); is it in the folder of a training run?") from error
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{saved} is not a saved config ({error})") from error


def load_network(path: str | Path, task: str) -> StoredNetwork:
    """Loads a trained network; of a run, the best one by validation, or that of the checkpoint which `path` names.

    Args:
      path: as for `read_description`.
      task: 'unmask', 'landmarks' or 'segmentation': which network is expected there.

    Raises:
      UserError: there is no network, it is another one, what is stored does not fit its description, or is not finite.
    """
    path = path_of(path)
    description, config = read_description(path)
    if description.task != task:
        raise UserError(f"{path} holds a network trained for '{description.task}', but one for '{task}' is needed")
    try:
        module = description.create()
    except UserError as error:
        raise UserError(f"cannot use the network in {path}: {error}") from error
    if path.is_dir():
        # Orbax, which only runs need, takes as long to import as all the rest.
        from maskgan_jax.networks.run_checkpoints import read_best, read_checkpoint

        variables = read_checkpoint(path, description.kind.network) if workdir_of(path) else read_best(path)
    else:
        variables = load_safetensors(path)
    # Without arrays, which a description of a large network would make too large.
    inputs = [jax.ShapeDtypeStruct((1, *shape), jnp.float32) for shape in description.inputs().values()]
    key = jax.random.key(0)  # Outside the block below: a device that JAX cannot use is not the network's fault.
    try:
        expected = {"batch_stats": {}, **jax.eval_shape(module.init, key, *inputs)}
    except Exception as error:  # Settings of no use lead a module to any exception.
        raise UserError(f"cannot use the network in {path}: {' '.join(str(error).split()):.200}") from error
    if jax.tree.map(jnp.shape, expected) != jax.tree.map(jnp.shape, variables):
        raise UserError(f"the network in {path} does not have the shapes that its config says; export it again")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        raise UserError(f"the network in {path} has weights that are not finite numbers; train it again")
    return StoredNetwork(description, module, variables, config)


def workdir_of(checkpoint: Path | epath.Path) -> Path | epath.Path | None:
    """The workdir of a run of which this is a checkpoint, `checkpoints/STEP`; None if it is none."""
    if not is_remote(checkpoint):
        checkpoint = Path(os.path.abspath(checkpoint))  # It may be given relative to a folder of its run.
    is_checkpoint = is_step(checkpoint.name) and checkpoint.parent.name == CHECKPOINTS and checkpoint.is_dir()
    return checkpoint.parent.parent if is_checkpoint else None


def checkpoint_of(workdir: str | Path | epath.Path, step: str) -> Path | epath.Path:
    """The path of the network that a run had after a step: its workdir for 'best', else one of its checkpoints.

    Args:
      workdir: of the run; a folder or a URL.
      step: 'best', 'last', or the number of a step whose checkpoint was kept.

    Raises:
      UserError: there is no such checkpoint, or the path is no run's.
    """
    workdir = path_of(workdir)
    if step == "best":
        return workdir
    with reaching(workdir):
        may_be_workdir = workdir.is_dir() and not workdir_of(workdir)
    if not may_be_workdir:
        raise UserError(f"--step={step} is for the workdir of a run, and {workdir} is none; leave it out")
    steps = steps_in(workdir / CHECKPOINTS)
    if not steps:
        raise UserError(f"{workdir} holds no checkpoint yet; `maskgan train` saves the first one after an epoch")
    if step == "last":
        return workdir / CHECKPOINTS / str(steps[-1])
    if not is_step(step) or int(step) not in steps:
        kept = ", ".join(map(str, steps))
        raise UserError(f"{workdir} has no checkpoint of step {step}; give --step=best, last or one of {kept}")
    return workdir / CHECKPOINTS / step
