"""Checkpoints of a run, with Orbax; every call to Orbax is in this file.

A workdir holds `checkpoints/STEP` (the whole state, the config and the iterator's position: what resuming needs) and
`best/STEP` (the variables of the network whose results count and their scores: what using it needs).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from maskgan_jax.errors import UserError
from maskgan_jax.training.state import TrainState, Variables


def open_checkpoints(workdir: Path, keep: int) -> ocp.CheckpointManager:
    """The checkpoints to resume from, of which the `keep` latest are kept. Saving goes on in the background."""
    return ocp.CheckpointManager(
        (workdir / "checkpoints").absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
    )


def open_best(workdir: Path) -> ocp.CheckpointManager:
    """The best checkpoint by validation, alone."""
    return ocp.CheckpointManager(
        (workdir / "best").absolute(),
        options=ocp.CheckpointManagerOptions(max_to_keep=1, create=True),
        # Named here, or Orbax cannot tell the shapes of what it finds, which `read_best` asks for.
        item_handlers={"network": ocp.StandardCheckpointHandler(), "scores": ocp.JsonCheckpointHandler()},
    )


def save_state(manager: ocp.CheckpointManager, state: TrainState, config: ConfigDict, iterator: grain.DatasetIterator) -> None:
    """Saves the state after `state.step` steps, config and iterator with it; raises UserError on a full disk."""
    _check_space(manager, state)
    manager.save(
        int(state.step),
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            config=ocp.args.JsonSave(config.to_dict()),
            iterator=grain.checkpoint.CheckpointSave(iterator),
        ),
    )


def restore_state(manager: ocp.CheckpointManager, state: TrainState, iterator: grain.DatasetIterator) -> TrainState:
    """The state of the latest checkpoint, with the shapes and shardings of `state`; moves `iterator` to its position.

    Raises:
      UserError: the checkpoint is of another network.
    """
    step = manager.latest_step()
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    misfit = UserError(f"the checkpoint in {manager.directory} does not fit the config; use its config, or another --workdir")
    # Orbax would find other shapes while it reads, and leave tracebacks of its threads behind.
    stored = ocp.StandardCheckpointHandler().metadata(manager.directory / str(step) / "state").tree
    if sorted(leaf.shape for leaf in jax.tree.leaves(stored)) != sorted(leaf.shape for leaf in jax.tree.leaves(target)):
        raise misfit
    try:
        restored = manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(target), iterator=grain.checkpoint.CheckpointRestore(iterator)
            ),
        )
    except (ValueError, KeyError) as error:
        raise misfit from error
    return restored.state


def _check_space(manager: ocp.CheckpointManager, tree: Any) -> None:
    # Orbax writes in the background, where a full disk ends in a storm of messages: look before.
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    free = shutil.disk_usage(manager.directory).free
    if free < 1.1 * needed + 1e6:
        raise UserError(
            f"a checkpoint of {needed / 1e6:.0f} MB does not fit into {manager.directory} ({free / 1e6:.0f} MB free); the ones "
            "before it are whole: free some space and start again to go on from there"
        )


def save_best(manager: ocp.CheckpointManager, step: int, variables: Variables, scores: dict[str, float]) -> None:
    """Saves the best network so far in place of the last best one; raises UserError on a full disk."""
    _check_space(manager, variables)
    manager.save(step, args=ocp.args.Composite(network=ocp.args.StandardSave(variables), scores=ocp.args.JsonSave(scores)))


def best_scores(manager: ocp.CheckpointManager) -> dict[str, float] | None:
    """The validation scores of the best checkpoint; None if there is none yet."""
    step = manager.latest_step()
    if step is None:
        return None
    return manager.restore(step, args=ocp.args.Composite(scores=ocp.args.JsonRestore())).scores


def read_best(workdir: Path) -> Variables:
    """The variables (NumPy) of the best network of a run.

    Raises:
      UserError: there is none.
    """
    missing = UserError(
        f"{workdir} holds no trained network yet; it appears there after the first validation of `maskgan train`"
    )
    if not (workdir / "best").is_dir():
        raise missing
    with open_best(workdir) as manager:
        step = manager.latest_step()
        if step is None:
            raise missing
        shapes = manager.item_metadata(step)["network"].tree
        target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
        return manager.restore(step, args=ocp.args.Composite(network=ocp.args.StandardRestore(target))).network
