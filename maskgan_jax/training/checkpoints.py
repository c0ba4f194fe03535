"""Checkpoints of a run, with Orbax: written, and resumed from. networks/run_checkpoints.py reads networks from them.

A workdir holds `checkpoints/STEP` (the whole state and the config: what resuming needs) and
`best/STEP` (the variables of the network whose results count and their scores: what using it needs). All processes of a run
make the same calls, with the same values; process 0 writes what is to be written once.
"""

from __future__ import annotations

import contextlib
import math
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from orbax.checkpoint import checkpoint_managers

from maskgan_jax.errors import UserError
from maskgan_jax.networks.buckets import key_value_store
from maskgan_jax.networks.description import Variables
from maskgan_jax.networks.run_checkpoints import checked, checksums, first_line, for_orbax, is_refused, read_through, room_for
from maskgan_jax.run_files import BEST, CHECKPOINTS, DAMAGED, LOCK
from maskgan_jax.runtime import lock
from maskgan_jax.storage import Unreachable, is_remote, move, reaching
from maskgan_jax.training.state import TrainState

# This run's name in a bucket.
_RUN = uuid.uuid4().hex


@contextlib.contextmanager
def locked(workdir: Path | epath.Path) -> Iterator[None]:
    """Makes the workdir, if need be, and keeps other runs out of it while the block lasts; a killed run keeps none out.

    In a bucket, where nothing ends with the process that made it, the run that begins last has the workdir: `.lock` names it,
    and another run that is still at work there ends before it saves its next checkpoint.

    Raises:
      UserError: it is a file or cannot be made, or another run is at work in it.
    """
    if jax.process_index() > 0:  # The processes of one run share the workdir.
        yield
        return
    if is_remote(workdir):
        with reaching(workdir):
            (workdir / LOCK).write_text(_RUN)
        check_ours(workdir)  # By tensorstore, which may have other credentials.
        yield
        return
    busy = f"another run is at work in {workdir}; wait for its end, or give another --workdir"
    with contextlib.ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock.locked(workdir / LOCK, busy))
        except OSError as error:
            raise UserError(f"cannot use the folder {workdir} ({error.strerror}); give another --workdir") from error
        yield


def check_ours(workdir: Path | epath.Path) -> None:
    """Raises UserError if another run has begun in a workdir in a bucket."""
    if jax.process_index() == 0 and is_remote(workdir):
        with storing(workdir):
            found = ts.KvStore.open(key_value_store(workdir / LOCK)).result().read("").result().value
        if found != _RUN.encode():
            raise UserError(
                f"another run has begun in {workdir} (.lock names it), or the folder was deleted; this run ends, and saves "
                "nothing more"
            )


@contextlib.contextmanager
def storing(folder: Path | epath.Path) -> Iterator[None]:
    """Turns errors of Orbax and tensorstore that name a folder in a bucket, or take too long, into Unreachable."""
    try:
        yield
    except Exception as error:
        # Orbax and tensorstore raise no exception types of their own.
        is_its = str(folder) in str(error) or isinstance(error, TimeoutError)
        if isinstance(error, UserError) or not is_remote(folder) or not is_its:
            raise
        raise Unreachable(
            f"cannot use {folder} ({first_line(error)}); the checkpoints that were complete are whole: check the network, your "
            "credentials and your rights there, and start again to go on"
        ) from error


def open_checkpoints(workdir: Path | epath.Path, keep: int = 1, kept_steps: Collection[int] = ()) -> ocp.CheckpointManager:
    """The checkpoints to resume from: the `keep` latest, and those of `kept_steps`."""
    folder = workdir / CHECKPOINTS
    with reaching(folder):
        return ocp.CheckpointManager(for_orbax(folder), options=_options(folder, keep, kept_steps))


def open_best(workdir: Path | epath.Path) -> ocp.CheckpointManager:
    """The best checkpoint by validation, alone."""
    folder = workdir / BEST
    of_json = {"scores": ocp.JsonCheckpointHandler(), "checksums": ocp.JsonCheckpointHandler()}
    handlers = {"network": ocp.StandardCheckpointHandler(), **of_json}
    with reaching(folder):
        return ocp.CheckpointManager(for_orbax(folder), options=_options(folder, 1), item_handlers=handlers)


def _options(folder: Path | epath.Path, keep: int, kept_steps: Collection[int] = ()) -> ocp.CheckpointManagerOptions:
    policies = (checkpoint_managers.LatestN(keep), checkpoint_managers.CustomSteps(sorted(kept_steps)))
    # A folder is renamed when it is whole; in a bucket that would be a copy of each file, and an object says that it is whole.
    of_bucket = {}
    if is_remote(folder):
        of_bucket["atomicity_options"] = ocp.options.AtomicityOptions(ocp.options.AtomicityMode.COMMIT_FILE)
    return ocp.CheckpointManagerOptions(
        **of_bucket,
        # On a disk a checkpoint is whole when `save` returns. Orbax's threads would give up when the clock jumps.
        enable_async_checkpointing=is_remote(folder),
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        # What a run that was killed left half-written.
        cleanup_tmp_directories=True,
        # Barriers of the two managers must not be mistaken for each other.
        multiprocessing_options=ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=folder.name),
    )


def save_state(manager: ocp.CheckpointManager, state: TrainState, config: ConfigDict) -> None:
    """Saves the state after `state.step` steps, and the config.

    On a disk it is whole on return, so that a kill never costs more steps than lie between two checkpoints; to a bucket it is
    written in the background.

    Raises:
      UserError: the disk is full, the bucket cannot be reached, or another run has begun there.
    """
    _check_can_save(manager, state)
    manager.save(
        int(state.step),
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            config=ocp.args.JsonSave(config.to_dict()),
            checksums=_checksums(state),
        ),
    )


def _checksums(tree: Any) -> ocp.args.JsonSave:
    return ocp.args.JsonSave(checksums(tree) if jax.process_index() == 0 else [])  # Process 0 writes them.


def restore_state(manager: ocp.CheckpointManager, state: TrainState) -> TrainState:
    """The state of the latest checkpoint that can be read, with the shapes and shardings of `state`.

    Later checkpoints, which are damaged, are named and put aside in `checkpoints.damaged`.

    Raises:
      UserError: the checkpoint is of another network, the system refuses to read it, or none can be read.
    """
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    damaged: dict[int, str] = {}
    for step in sorted(manager.all_steps(), reverse=True):
        reason = ""
        try:
            restored = _restore(manager, step, target)
        except (UserError, jax.errors.JaxRuntimeError):  # The latter says that the device has no room.
            raise
        except Exception as error:  # Damaged files lead Orbax and its storage to any exception.
            reason = first_line(error)
            if is_refused(error):
                raise UserError(
                    f"the system refuses to read the checkpoint of step {step} in {manager.directory} ({reason}); mend that "
                    "and start again, or move it away to go on from the one before it"
                ) from error
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


def _restore(manager: ocp.CheckpointManager, step: int, target: TrainState) -> TrainState:
    folder = manager.directory / str(step) / "state"
    read_through(folder)
    # Orbax would find other shapes while it reads, where they look like damage.
    stored = ocp.StandardCheckpointHandler().metadata(folder).tree
    if sorted(leaf.shape for leaf in jax.tree.leaves(stored)) != sorted(leaf.shape for leaf in jax.tree.leaves(target)):
        raise UserError(f"the checkpoint in {manager.directory} does not fit the config; use its config, or another --workdir")
    restored = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))
    return checked(manager.directory / str(step), restored.state)


def _agreed(fine: bool) -> bool:
    """Whether all processes find it fine."""
    return bool(np.all(multihost_utils.process_allgather(np.array(fine))))


def _put_aside(manager: ocp.CheckpointManager, step: int, reason: str) -> None:
    """Moves a checkpoint out of the way of the one that the run will save after the same step."""
    folder = manager.directory.parent / DAMAGED
    if jax.process_index() == 0:
        folder.mkdir(exist_ok=True)
        if (folder / str(step)).exists():
            (folder / str(step)).rmtree()
        with reaching(folder):
            move(manager.directory / str(step), folder / str(step))
        print(f"the checkpoint of step {step} is damaged ({reason}) and was moved to {folder}; going on from the one before it")
    multihost_utils.sync_global_devices("put aside")
    manager.reload()


def _check_can_save(manager: ocp.CheckpointManager, tree: Any) -> None:
    """Raises UserError in all processes if process 0 cannot save: the others would wait for it in Orbax's barrier.

    The folder is shared, so what process 0 finds there counts for all.
    """
    failure = None
    if jax.process_index() == 0:
        try:
            check_ours(manager.directory.parent)
            _check_space(manager, tree)
        except Exception as error:
            failure = error
    if not _agreed(failure is None):
        raise failure or UserError(f"process 0 cannot save a checkpoint in {manager.directory}; its message tells why")


def _check_space(manager: ocp.CheckpointManager, tree: Any) -> None:
    needed, free = room_for(manager.directory, tree)
    if free < needed:
        raise UserError(
            f"a checkpoint in {manager.directory} needs {math.ceil(needed / 1e6)} MB, {math.floor(free / 1e6)} MB free; the "
            "ones before it are whole: free some space and start again to go on from there"
        )


def save_best(manager: ocp.CheckpointManager, step: int, variables: Variables, scores: dict[str, float]) -> None:
    """Saves the best network so far in place of the last best one. Raises UserError as `save_state` does."""
    _check_can_save(manager, variables)
    last = manager.latest_step()
    # A run that was stopped may have left one of a step that comes again now; Orbax would keep that and skip this.
    if last is not None and last >= step:
        manager.delete(last)
    items = {"scores": ocp.args.JsonSave(scores), "checksums": _checksums(variables)}
    manager.save(step, args=ocp.args.Composite(network=ocp.args.StandardSave(variables), **items))


def best_scores(manager: ocp.CheckpointManager) -> dict[str, float] | None:
    """The validation scores of the best checkpoint; None if there is none yet, or it is damaged.

    Raises:
      UserError: the system refuses to read them.
    """
    step = manager.latest_step()
    if step is None:
        return None
    try:
        return manager.restore(step, args=ocp.args.Composite(scores=ocp.args.JsonRestore())).scores
    except Exception as error:  # Damaged files lead Orbax to any exception; the run does not need these to go on.
        if is_refused(error):
            raise UserError(
                f"the system refuses to read the best network in {manager.directory / str(step)} ({first_line(error)}); mend "
                "that and start again to go on from the last checkpoint"
            ) from error
        if jax.process_index() == 0:
            print(f"the best network, in {manager.directory / str(step)}, is damaged; the next one takes its place")
        return None
