"""Checkpoints of a run, with Orbax; every call to Orbax is in this file.

A workdir holds `checkpoints/STEP` (the whole state, the config and the iterator's position: what resuming needs) and
`best/STEP` (the variables of the network whose results count and their scores: what using it needs). All processes of a run
make the same calls, with the same values; process 0 writes what is to be written once.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from maskgan_jax.errors import UserError
from maskgan_jax.runtime import lock
from maskgan_jax.training.state import TrainState, Variables


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Makes the workdir, if need be, and keeps other runs out of it while the block lasts; a killed run keeps none out.

    Raises:
      UserError: it is a file or cannot be made, or another run is at work in it.
    """
    if jax.process_index() > 0:  # The processes of one run share the workdir.
        yield
        return
    busy = f"another run is at work in {workdir}; wait for its end, or give another --workdir"
    with contextlib.ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock.locked(workdir / ".lock", busy))
        except OSError as error:
            raise UserError(f"cannot use the folder {workdir} ({error.strerror}); give another --workdir") from error
        yield


def open_checkpoints(workdir: Path, keep: int = 1, read_only: bool = False) -> ocp.CheckpointManager:
    """The checkpoints to resume from, of which the `keep` latest are kept. Saving goes on in the background."""
    return ocp.CheckpointManager((workdir / "checkpoints").absolute(), options=_options("checkpoints", keep, read_only))


def open_best(workdir: Path, read_only: bool = False) -> ocp.CheckpointManager:
    """The best checkpoint by validation, alone."""
    return ocp.CheckpointManager(
        (workdir / "best").absolute(),
        options=_options("best", 1, read_only),
        # Named here, or Orbax cannot tell the shapes of what it finds, which `read_best` asks for.
        item_handlers={"network": ocp.StandardCheckpointHandler(), "scores": ocp.JsonCheckpointHandler()},
    )


def _options(name: str, keep: int, read_only: bool) -> ocp.CheckpointManagerOptions:
    return ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        create=not read_only,
        # What a run that was killed left half-written. A reader would take it from a run that is at work.
        cleanup_tmp_directories=not read_only,
        # The processes meet for the one without being taken to have come for the other.
        multiprocessing_options=ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=name),
    )


def save_state(manager: ocp.CheckpointManager, state: TrainState, config: ConfigDict, iterator: grain.DatasetIterator) -> None:
    """Saves the state after `state.step` steps, config and iterator with it; raises UserError on a full disk."""
    _check_space(manager, state)
    manager.save(
        int(state.step),
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            config=ocp.args.JsonSave(config.to_dict()),
            # The same in all processes, however many there are.
            iterator=ocp.args.JsonSave(iterator.get_state()),
        ),
    )


def restore_state(manager: ocp.CheckpointManager, state: TrainState, iterator: grain.DatasetIterator) -> TrainState:
    """The state of the latest checkpoint that can be read, with the shapes and shardings of `state`.

    Moves `iterator` to its position. Later checkpoints, which are damaged, are named and put aside in `checkpoints.damaged`.

    Raises:
      UserError: the checkpoint is of another network, or none can be read.
    """
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    damaged: dict[int, str] = {}
    for step in sorted(manager.all_steps(), reverse=True):
        reason = ""
        try:
            restored = _restore(manager, step, target, iterator)
        except UserError:
            raise
        except Exception as error:  # Damage shows in whatever Orbax and its storage stumble over.
            reason = _first_line(error)
        if not _agreed(not reason):
            damaged[step] = reason or "another process cannot read it"
            continue
        for later, reason in damaged.items():
            _put_aside(manager, later, reason)
        return restored
    raise UserError(
        f"no checkpoint in {manager.directory} can be read ({next(iter(damaged.values()))}); delete that folder to begin "
        "again, or give another --workdir"
    )


def _restore(manager: ocp.CheckpointManager, step: int, target: TrainState, iterator: grain.DatasetIterator) -> TrainState:
    folder = manager.directory / str(step) / "state"
    _read_through(folder)
    # Orbax would find other shapes while it reads, where they look like damage.
    stored = ocp.StandardCheckpointHandler().metadata(folder).tree
    if sorted(leaf.shape for leaf in jax.tree.leaves(stored)) != sorted(leaf.shape for leaf in jax.tree.leaves(target)):
        raise UserError(f"the checkpoint in {manager.directory} does not fit the config; use its config, or another --workdir")
    items = {"state": ocp.args.StandardRestore(target), "iterator": ocp.args.JsonRestore()}
    restored = manager.restore(step, args=ocp.args.Composite(**items))
    iterator.set_state(restored.iterator)
    return restored.state


def _agreed(fine: bool) -> bool:
    """Whether all processes find it fine."""
    return bool(np.all(multihost_utils.process_allgather(np.array(fine))))


def _put_aside(manager: ocp.CheckpointManager, step: int, reason: str) -> None:
    """Moves a checkpoint out of the way of the one that the run will save after the same step."""
    folder = manager.directory.parent / "checkpoints.damaged"
    if jax.process_index() == 0:
        folder.mkdir(exist_ok=True)
        shutil.rmtree(folder / str(step), ignore_errors=True)
        (manager.directory / str(step)).rename(folder / str(step))
        print(f"the checkpoint of step {step} is damaged ({reason}) and was moved to {folder}; going on from the one before it")
    multihost_utils.sync_global_devices("put aside")
    manager.reload()


def _read_through(folder: epath.Path) -> None:
    """Fails if a file of a stored tree is missing or cut short; Orbax would leave tracebacks of its threads behind."""
    store = ts.KvStore.open({"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"}}).result()
    for key in store.list().result():
        store.read(key).result()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:120]


def _space(folder: Path | epath.Path, tree: Any) -> tuple[float, float]:
    """The bytes that a checkpoint of `tree` needs, and those that are free where `folder` is.

    Orbax writes in the background, where a full disk ends in a storm of messages: look before.
    """
    # A tenth more is for the files' own needs.
    needed = 1.1 * sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + 1e6
    return needed, shutil.disk_usage(folder).free


def _check_space(manager: ocp.CheckpointManager, tree: Any) -> None:
    needed, free = _space(manager.directory, tree)
    if free < needed:
        raise UserError(
            f"a checkpoint in {manager.directory} needs {math.ceil(needed / 1e6)} MB, {math.floor(free / 1e6)} MB free; the "
            "ones before it are whole: free some space and start again to go on from there"
        )


def save_best(manager: ocp.CheckpointManager, step: int, variables: Variables, scores: dict[str, float]) -> None:
    """Saves the best network so far in place of the last best one; raises UserError on a full disk."""
    _check_space(manager, variables)
    last = manager.latest_step()
    # A run that was stopped may have left one of a step that comes again now; Orbax would keep that and skip this.
    if last is not None and last >= step:
        manager.delete(last)
    manager.save(step, args=ocp.args.Composite(network=ocp.args.StandardSave(variables), scores=ocp.args.JsonSave(scores)))


def export_variables(folder: Path, variables: Variables) -> None:
    """Writes the variables of a network, and nothing else, as an Orbax checkpoint of a plain tree.

    Args:
      folder: to be made, in a folder that is there.
      variables: of the network.

    Raises:
      OSError: the disk is full, or refuses in another way.
    """
    needed, free = _space(folder.parent, variables)
    if free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder.absolute(), jax.tree.map(np.asarray, variables))
    except ValueError as error:
        # The disk of a quota, or one that others fill; TensorStore, which wrote, has the system's reason in its text alone.
        if code := re.search(r"os_error_code='(\d+)'", str(error)):
            raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
        raise


def best_scores(manager: ocp.CheckpointManager) -> dict[str, float] | None:
    """The validation scores of the best checkpoint; None if there is none yet, or none that can be read."""
    step = manager.latest_step()
    if step is None:
        return None
    try:
        return manager.restore(step, args=ocp.args.Composite(scores=ocp.args.JsonRestore())).scores
    except Exception:  # Damage shows in whatever Orbax stumbles over; the run itself is whole without this.
        print(f"the best network, in {manager.directory / str(step)}, is damaged; the next one takes its place")
        return None


def read_last(workdir: Path, network: str) -> Variables:
    """The variables (NumPy) of a network in the latest checkpoint of a run; its moving average, if there is one.

    Args:
      workdir: of the run.
      network: its name among those that are trained, as in `Task`.

    Raises:
      UserError: there is no checkpoint, or it is damaged.
    """
    with open_checkpoints(workdir, read_only=True) as manager:
        step = manager.latest_step()
        if step is None:
            raise UserError(f"{workdir} holds no checkpoint yet; `maskgan train` saves the first one after an epoch")
        folder = manager.directory / str(step)
        try:
            _read_through(folder / "state")
            handler = ocp.StandardCheckpointHandler()
            shapes = handler.metadata(folder / "state").tree
            target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
            state = handler.restore(folder / "state", args=ocp.args.StandardRestore(target))
        except Exception as error:  # As for `restore_state`.
            raise UserError(
                f"the checkpoint in {folder} is damaged ({_first_line(error)}); train on until the next one"
            ) from error
    return state["ema"] or {"params": state["params"][network], "batch_stats": state["batch_stats"]}


def read_best(workdir: Path) -> Variables:
    """The variables (NumPy) of the best network of a run.

    Raises:
      UserError: there is none, or it is damaged.
    """
    missing = UserError(
        f"{workdir} holds no trained network yet; it appears there after the first validation of `maskgan train`"
    )
    if not (workdir / "best").is_dir():
        raise missing
    with open_best(workdir, read_only=True) as manager:
        step = manager.latest_step()
        if step is None:
            raise missing
        folder = manager.directory / str(step)
        try:
            _read_through(folder / "network")
            shapes = manager.item_metadata(step)["network"].tree
            target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
            return manager.restore(step, args=ocp.args.Composite(network=ocp.args.StandardRestore(target))).network
        except Exception as error:  # As for `restore_state`.
            raise UserError(
                f"the network in {folder} is damaged ({_first_line(error)}); delete it and train on until the next validation, "
                "or give another network"
            ) from error
