"""The training loop: records in; checkpoints, metrics and images out. Resumes by itself from its workdir."""

from __future__ import annotations

import contextlib
import errno
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from maskgan_jax.data.masked_faces.reader import Records, load_split, readable, zoom_of
from maskgan_jax.data.pipeline import training_batches
from maskgan_jax.errors import Unfinished, UserError
from maskgan_jax.images import Batch
from maskgan_jax.networks.description import Variables, kind_of
from maskgan_jax.networks.run_checkpoints import latest, system_error
from maskgan_jax.run_files import CHECKPOINTS, WALL_TIME, read_rows
from maskgan_jax.runtime import signals
from maskgan_jax.runtime.distributed import must_stop
from maskgan_jax.storage import path_of
from maskgan_jax.training import checkpoints, resuming
from maskgan_jax.training.mesh import create_mesh, fsdp_shardings, replicated, shard_batch
from maskgan_jax.training.metrics_files import MetricsFiles
from maskgan_jax.training.not_finite import ADVICE, NonFiniteMonitor
from maskgan_jax.training.profiler import Profiler
from maskgan_jax.training.speed import Speed
from maskgan_jax.training.state import Task, TrainState, mean_of
from maskgan_jax.training.step import create_state, train_step
from maskgan_jax.training.tasks import create_task
from maskgan_jax.training.validation import create_validator, merged
from maskgan_jax.training.wall_time import WallTime


def train(config: ConfigDict, data_dir: str | Path, workdir: str | Path) -> TrainState:
    """Trains what `config.task` names, from the latest checkpoint in `workdir` if there is one, and gives the last state.

    Both folders may be URLs (`gs://`, `s3://`).
    The workdir gets `config.json`, `checkpoints/`, `best/`, `metrics.jsonl`, `events.*` (TensorBoard), `pictures/` and
    `wall_time.json`.
    resuming.py says which settings may change when a run goes on. It may go on with other devices and another number of
    processes, each of which calls this, after `distributed.join`.

    The terms of the loss, the norms of the gradients, the learning rate and the speed (see `Speed.values`) are logged.

    Raises:
      Unfinished: SIGTERM, SIGUSR1 or `training.minutes` ended the run early, after a checkpoint.
      UserError: something is wrong with the config, the data or the workdir, or a term of the loss or the state stopped being
        finite.
    """
    workdir = path_of(workdir)
    wall_time = WallTime(workdir)
    kind_of(config.task)  # Before the data are read: the name may be mistyped.
    records = load_split(data_dir, "train")
    try:
        validation = load_split(data_dir, "validation")
    except UserError as error:
        raise UserError(f"{error} (training needs this split: data.splits must give it a share)") from error
    config = _with_batch_that_fits(config, records, data_dir)
    _check_records(records, config, data_dir)
    _check_same_records(len(records), len(validation))
    # Before the workdir is made: the config may name weights that are not there.
    mesh = create_mesh(config)
    config, of_data = resuming.with_data_of(config, data_dir)
    if of_data and jax.process_index() == 0:
        print(f"{', '.join(of_data)}: taken from the data set, which was built with other values than the config has")
    task = create_task(config)
    initial_variables = task.first() if latest(workdir / CHECKPOINTS) is None else None
    digests = resuming.digests(task, data_dir)
    if initial_variables is not None:
        digests["initial_variables"] = resuming.digest_tree(initial_variables)
    with checkpoints.locked(workdir):
        try:
            return _run(config, task, initial_variables, digests, mesh, records, validation, workdir, wall_time)
        except (OSError, ValueError) as error:  # The latter of TensorStore.
            if system_error(error) not in (errno.ENOSPC, errno.EDQUOT):
                raise
            full = getattr(error, "filename", None) or workdir
            raise UserError(
                f"no space is left for {full}; the checkpoints that were complete are whole: free some "
                "space and start again to go on from there"
            ) from error


class Plan(NamedTuple):
    """What a run does after which steps, counted from 1.

    Attributes:
      steps: its length; everything is done after the last step.
      validate_every: steps between validations.
      checkpoint_every: steps between checkpoints.
      log_every: steps between lines of the log; each validation and each checkpoint is logged too.
      kept_steps: steps whose checkpoints stay; one is saved after each of them.
    """

    steps: int
    validate_every: int
    checkpoint_every: int
    log_every: int
    kept_steps: frozenset[int]

    @classmethod
    def of(cls, config: ConfigDict, records: int) -> Plan:
        """The plan that a config makes for so many training records."""
        epoch, settings = max(1, records // config.input.batch_size), config.training
        return cls(
            steps=settings.steps or math.ceil(settings.epochs * epoch),
            validate_every=settings.validate_every or epoch,
            checkpoint_every=settings.checkpoint_every or epoch,
            log_every=settings.log_every,
            kept_steps=frozenset(math.ceil(epochs * epoch) for epochs in settings.keep_epochs),
        )

    def validates(self, step: int) -> bool:
        """Whether the run validates after this step."""
        return step % self.validate_every == 0 or step >= self.steps

    def saves(self, step: int) -> bool:
        """Whether it saves a checkpoint."""
        return step % self.checkpoint_every == 0 or step >= self.steps or step in self.kept_steps

    def logs(self, step: int) -> bool:
        """Whether it logs."""
        return step % self.log_every == 0 or self.validates(step) or self.saves(step)


def _run(
    config: ConfigDict,
    task: Task,
    initial_variables: Variables | None,
    digests: dict[str, str],
    mesh: Mesh,
    records: Records,
    validation: Records,
    workdir: Path | epath.Path,
    wall_time: WallTime,
) -> TrainState:
    ends_at = time.monotonic() + 60 * config.training.minutes if config.training.minutes else math.inf
    changes = resuming.check(config, task, digests, workdir)
    plan = Plan.of(config, len(records))
    is_first_process = jax.process_index() == 0
    frozen = jax.device_put(task.frozen, replicated(mesh))
    state, step_key = _first_state(task, config, plan.steps, mesh, initial_variables)
    step_of_run = _compiled_step(task, config, mesh, jax.tree.map(lambda leaf: leaf.sharding, state))
    length = jax.device_put(np.float32(plan.steps), replicated(mesh))
    is_finite = jax.jit(
        lambda state: jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state)])),
        out_shardings=replicated(mesh),
    )
    share = {"process_index": jax.process_index(), "process_count": jax.process_count()}

    with (
        checkpoints.storing(workdir),
        checkpoints.open_checkpoints(workdir, config.training.keep, plan.kept_steps) as saved,
        checkpoints.open_best(workdir) as best,
        contextlib.ExitStack() as stack,
    ):
        if saved.latest_step() is not None:
            state = checkpoints.restore_state(saved, state)
        start = int(state.step)
        batches = training_batches(records, config, start=start, **share)
        # The checkpoint is saved first: a stop or a kill may have come before the validation of the same step, or during it.
        lacks_validation = start > 0 and plan.validates(start) and not _is_validated(workdir, start)
        if start >= plan.steps and not lacks_validation:
            if is_first_process:
                print(f"the run in {workdir} is complete: it has done {start} steps of {plan.steps}")
            return state
        if is_first_process:
            for change in changes:
                print(change)
            resuming.write_config(config, digests, workdir, begins=start == 0)
        writer = stack.enter_context(MetricsFiles(workdir, start, partial(checkpoints.check_ours, workdir)))
        wall_time.go_on(start)
        validate = partial(_validate, create_validator(task, validation, config, mesh), task, best, writer, wall_time)
        monitor = NonFiniteMonitor(config, task, records, step_key, plan.steps)
        speed = Speed(task, config, mesh)
        profiler = stack.enter_context(Profiler(config, start, plan.steps, writer))
        wall_time.spent("start")
        if lacks_validation:
            validate(state, start)
            speed.restart()
        progress = stack.enter_context(_progress_bar(f"train {config.task}", start, plan.steps))
        # Of the steps since the last that was logged.
        pending: list[Terms] = []
        arrays: Batch = {}
        for step in progress:
            profiler.before(step)
            # Dispatch one step ahead, so devices never idle, but no further: queued batches would fill their memory.
            asked = time.monotonic()
            last, arrays = arrays, next(batches)
            batch = shard_batch({name: array for name, array in arrays.items() if name != "index"}, mesh)
            is_idle = not pending or pending[-1].values.is_ready()
            if is_idle:
                speed.waited += time.monotonic() - asked
            wall_time.spent("input" if is_idle else "step")
            state, terms = step_of_run(length, state, frozen, batch, step_key)
            if step == start + 1:
                signals.can_save()
                wall_time.spent("compile")
            if pending:
                monitor(step - 1, pending[-1].fetched(), last, state)
            profiler.after(step, terms)
            terms.values.copy_to_host_async()
            pending.append(terms)

            is_terminated = must_stop(step)
            is_over = time.monotonic() > ends_at
            if jax.process_count() > 1:  # Clocks differ between processes: they agree, but not after each step.
                is_over = ends_at < math.inf and plan.logs(step) and multihost_utils.broadcast_one_to_all(is_over)
            stops = (is_terminated or is_over) and step < plan.steps
            saves, validates, logs = plan.saves(step) or stops, plan.validates(step), plan.logs(step) or stops
            if logs:
                rows = [terms.fetched() for terms in pending]
                monitor(step, rows[-1], arrays, state)
                means = _means(rows)
                if config.training.not_finite == "skip":
                    means["skipped_batches"] = monitor.skipped
                    monitor.skipped = 0
                writer.write(step, "train", means | speed.values(len(rows)))
                progress.set_postfix_str(f"{means.get(task.loss, math.nan):.3g}")
                pending = []
                wall_time.spent("step")
            # The terms of the last step are of the state before it.
            if (saves or validates) and not is_finite(state):
                raise UserError(f"after step {step} the state of the run is not finite; {ADVICE}")
            if saves:
                checkpoints.save_state(saved, state, config)
                wall_time.spent("checkpoint")
            if logs:
                writer.write_json(WALL_TIME, wall_time.as_json(step))
            stopped = (
                f"SIGTERM or SIGUSR1 came; the checkpoint of step {step} of {plan.steps} is saved: start again to go on from "
                "there"
            )
            if stops:
                saved.wait_until_finished()
                if is_terminated:
                    raise Unfinished(stopped)
                raise Unfinished(
                    f"{config.training.minutes:g} minutes (training.minutes) are over; the checkpoint of step {step} of "
                    f"{plan.steps} is saved: start again to go on from there"
                )
            if validates:
                ends_at_once = contextlib.nullcontext()
                if saves:
                    saved.wait_until_finished()
                    if jax.process_count() == 1:  # Several stop together, after the next step.
                        ends_at_once = signals.nothing_to_save(stopped)
                with ends_at_once:
                    validate(state, step)
            if logs:
                speed.restart()
        saved.wait_until_finished()
        wall_time.spent("checkpoint")
        writer.write_json(WALL_TIME, wall_time.as_json(max(start, plan.steps)))
    return state


def _progress_bar(name: str, start: int, steps: int) -> tqdm:
    """The steps of a run that goes on after step `start`, from 1, with a bar that process 0 shows."""
    is_hidden = jax.process_index() > 0
    return tqdm(range(start + 1, steps + 1), name, initial=start, total=steps, unit="step", disable=is_hidden)


def _validate(
    validator: Callable[..., dict[str, float]],
    task: Task,
    best: ocp.CheckpointManager,
    writer: MetricsFiles,
    wall_time: WallTime,
    state: TrainState,
    step: int,
) -> None:
    """Validates a state, and keeps its network if it is the best. The scores are written last: see `_is_validated`."""
    scores = validator(task.results(state), step, writer)
    known = checkpoints.best_scores(best)
    least = known[task.criterion] if known else math.inf
    is_better = scores[task.criterion] < (math.inf if math.isnan(least) else least)  # NaN never is.
    if multihost_utils.broadcast_one_to_all(is_better):  # All processes save, or none.
        checkpoints.save_best(best, step, task.results(state), scores)
        best.wait_until_finished()
    writer.write(step, "validation", scores)
    wall_time.spent("validation")
    writer.write_json(WALL_TIME, wall_time.as_json(step))


def _is_validated(workdir: Path | epath.Path, step: int) -> bool:
    """Whether the run's files have the validation of that step; the answer of process 0, for all."""
    is_first = jax.process_index() == 0
    is_written = is_first and any((row["step"], row["phase"]) == (step, "validation") for row in read_rows(workdir))
    return bool(multihost_utils.broadcast_one_to_all(is_written))


def _first_state(
    task: Task, config: ConfigDict, steps: int, mesh: Mesh, variables: Variables | None
) -> tuple[TrainState, jax.Array]:
    """The state before the first step, where it will live, and the run's random key; `variables` are what it begins with."""
    keys = jax.jit(lambda seed: tuple(jax.random.split(jax.random.key(seed))), out_shardings=replicated(mesh))
    init_key, step_key = keys(np.uint32(config.seed))
    create = partial(create_state, task, config, steps)
    shardings = fsdp_shardings(mesh, jax.eval_shape(create, init_key))
    state = jax.jit(create, out_shardings=shardings)(init_key)
    if variables is not None:
        # Copied, because the step takes the memory of its state, and of nothing else.
        state = jax.tree.map(jnp.copy, jax.device_put(begun_with(task, state, variables), shardings))
    return state, step_key


@flax.struct.dataclass
class Terms:
    """What a step logs, as one array: fetched one by one, the terms of many steps would be thousands of transfers."""

    values: jax.Array
    names: tuple[str, ...] = flax.struct.field(pytree_node=False)

    def fetched(self) -> dict[str, np.ndarray]:
        """The terms by name, as NumPy numbers; waits for the step."""
        return dict(zip(self.names, jax.device_get(self.values), strict=True))


def _compiled_step(
    task: Task, config: ConfigDict, mesh: Mesh, shardings: TrainState
) -> Callable[..., tuple[TrainState, Terms]]:
    """The jitted training step, whose terms come as one array."""

    def packed_step(*arguments: Any) -> tuple[TrainState, Terms]:
        state, terms = train_step(task, config, *arguments, mesh=mesh)
        return state, Terms(jnp.stack(list(terms.values())), tuple(terms))

    return jax.jit(packed_step, donate_argnums=1, out_shardings=(shardings, replicated(mesh)))


def begun_with(task: Task, state: TrainState, variables: Variables) -> TrainState:
    """A state before the first step, with these variables of the network whose results count."""
    batch_stats = variables.get("batch_stats", {})
    state = state.replace(params={**state.params, task.network: variables["params"]}, batch_stats=batch_stats)
    return state.replace(ema=task.variables(state.params, batch_stats) if state.ema else {})


def _with_batch_that_fits(config: ConfigDict, records: Records, data_dir: str | Path) -> ConfigDict:
    """The config, or if there are fewer records than a batch, the same with the largest batch that there are enough for."""
    if len(records) >= config.input.batch_size:
        return config
    parts = len(jax.devices()) * config.optimizer.accumulate
    fitting = len(records) // parts * parts
    told = f"{data_dir} has {len(records)} training records, fewer than a batch of {config.input.batch_size}"
    if not fitting:
        raise UserError(f"{told}, and than the {parts} that the devices need")
    if jax.process_index() == 0:
        print(f"{told}: input.batch_size becomes {fitting}")
    config = config.copy_and_resolve_references()
    config.input.batch_size = fitting
    return config


def _check_records(records: Records, config: ConfigDict, data_dir: str | Path) -> None:
    _, record = next(readable(records, range(len(records))))
    side = record["real"].shape[0]
    if side != config.data.size:
        raise UserError(f"the faces in {data_dir} are {side} px, not data.size, {config.data.size}; make them alike")
    if (zoom := zoom_of(data_dir)) != config.data.zoom:
        raise UserError(
            f"the data set in {data_dir} was built with data.zoom={zoom:g}, not {config.data.zoom:g}; make them alike"
        )


def _check_same_records(*counts: int) -> None:
    """Raises UserError if the processes of the run, each with a copy of the data set, have other numbers of records."""
    for process, others in enumerate(multihost_utils.process_allgather(np.array(counts)).reshape(-1, len(counts))):
        if others.tolist() != list(counts):
            raise UserError(
                f"process {process} has {others[0]} training and {others[1]} validation records, this one "
                f"{counts[0]} and {counts[1]}; copy the same data set to all machines"
            )


def _means(steps: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Means of the terms over the last steps, without those that were skipped; {} if all were."""
    finite = [terms for terms in steps if np.isfinite(list(terms.values())).all()]
    if not finite:
        return {}
    means = mean_of(*finite[0])
    return merged(means.single_from_model_output(**terms) for terms in finite)
