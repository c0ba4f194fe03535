"""The training loop: records in; checkpoints, metrics and images out. Resumes by itself from its workdir."""

from __future__ import annotations

import contextlib
import errno
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

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
from maskgan_jax.networks.description import Variables, kind_of
from maskgan_jax.networks.run_checkpoints import latest
from maskgan_jax.runtime import signals
from maskgan_jax.runtime.chips import chip_of
from maskgan_jax.runtime.distributed import must_stop
from maskgan_jax.storage import path_of
from maskgan_jax.training import checkpoints, resuming
from maskgan_jax.training.abstract import count_flops
from maskgan_jax.training.gan import GAN
from maskgan_jax.training.landmark_regression import LandmarkRegression
from maskgan_jax.training.mesh import create_mesh, fsdp_shardings, replicated, shard_batch
from maskgan_jax.training.metrics_files import MetricsFiles, read_rows
from maskgan_jax.training.not_finite import ADVICE, NonFiniteMonitor
from maskgan_jax.training.segmentation import Segmentation
from maskgan_jax.training.state import Task, TrainState, mean_of
from maskgan_jax.training.step import create_state, train_step
from maskgan_jax.training.validation import create_validator, merged
from maskgan_jax.training.wall_time import WallTime

TASKS: dict[str, Callable[[ConfigDict], Task]] = {
    "unmask": GAN,
    "landmarks": LandmarkRegression,
    "segmentation": Segmentation,
}


def train(config: ConfigDict, data_dir: str | Path, workdir: str | Path) -> TrainState:
    """Trains what `config.task` names, from the latest checkpoint in `workdir` if there is one, and gives the last state.

    Both folders may be URLs (`gs://`, `s3://`).
    The workdir gets `config.json`, `checkpoints/`, `best/`, `metrics.jsonl`, `events.*` (TensorBoard), `pictures/` and
    `wall_time.json`.
    resuming.py says which settings may change when a run goes on. It may go on with other devices and another number of
    processes, each of which calls this, after `distributed.join`.

    Beside the terms of the loss, the norms of the gradients and the learning rate, the speed is logged:
      pictures_per_second: of all devices; and `images_per_second_per_device`.
      input_wait: the fraction of the time, from 0 to 1, that the loop waited for records while the devices had nothing left to
        do; waiting while they compute costs nothing. If they finish within one wait, all of it counts.
      flop_utilization: the step's FLOPs (see `count_flops`) over what the devices could do in its time, if their peak is in
        runtime/chips.py or given (`training.peak_tflops`).

    Raises:
      Unfinished: SIGTERM, SIGUSR1 or `training.minutes` ended the run early, after a checkpoint.
      UserError: something is wrong with the config, the data or the workdir, or a term of the loss or the state stopped being
        finite.
    """
    workdir = path_of(workdir)
    wall_time = WallTime(workdir)
    kind_of(config.task)  # There is one.
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
    task = TASKS[config.task](config)
    initial_variables = task.first() if latest(workdir / "checkpoints") is None else None
    digests = resuming.digests(task, data_dir)
    if initial_variables is not None:
        digests["initial_variables"] = resuming.digest_tree(initial_variables)
    with checkpoints.locked(workdir):
        changes = resuming.check(config, task, digests, workdir)
        try:
            return _run(config, task, initial_variables, digests, changes, mesh, records, validation, workdir, wall_time)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(
                f"no space is left for {error.filename or workdir}; the checkpoints that were complete are whole: free some "
                "space and start again to go on from there"
            ) from error


def _run(
    config: ConfigDict,
    task: Task,
    initial_variables: Variables | None,
    digests: dict[str, str],
    changes: list[str],
    mesh: Mesh,
    records: Records,
    validation: Records,
    workdir: Path | epath.Path,
    wall_time: WallTime,
) -> TrainState:
    end = time.monotonic() + 60 * config.training.minutes if config.training.minutes else math.inf
    steps_per_epoch = max(1, len(records) // config.input.batch_size)
    steps = config.training.steps or math.ceil(config.training.epochs * steps_per_epoch)
    validate_every = config.training.validate_every or steps_per_epoch
    checkpoint_every = config.training.checkpoint_every or steps_per_epoch
    kept_steps = {math.ceil(epochs * steps_per_epoch) for epochs in config.training.keep_epochs}

    is_first_process = jax.process_index() == 0
    frozen = jax.device_put(task.frozen, replicated(mesh))
    state, step_key = _first_state(task, config, steps, mesh, initial_variables)
    names: list[str] = []
    step_of_run = _compiled_step(task, config, mesh, jax.tree.map(lambda leaf: leaf.sharding, state), names)
    length = jax.device_put(np.float32(steps), replicated(mesh))
    is_finite = jax.jit(
        lambda state: jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state)])),
        out_shardings=replicated(mesh),
    )
    batches = training_batches(records, config, process_index=jax.process_index(), process_count=jax.process_count())

    with (
        checkpoints.storing(workdir),
        checkpoints.open_checkpoints(workdir, config.training.keep, kept_steps) as saved,
        checkpoints.open_best(workdir) as best,
        contextlib.ExitStack() as stack,
    ):
        if saved.latest_step() is not None:
            state = checkpoints.restore_state(saved, state, batches)
        start = int(state.step)
        # The checkpoint is saved first: a stop or a kill may have come before the validation of the same step, or during it.
        lacks_validation = start > 0 and (start % validate_every == 0 or start >= steps) and not _is_validated(workdir, start)
        if start >= steps and not lacks_validation:
            if is_first_process:
                print(f"the run in {workdir} is complete: it has done {start} steps of {steps}")
            return state
        if is_first_process:
            for change in changes:
                print(change)
            resuming.write_config(config, digests, workdir, begins=start == 0)
        writer = stack.enter_context(MetricsFiles(workdir, start, partial(checkpoints.check_ours, workdir)))
        wall_time.go_on(start)
        validate = partial(_validate, create_validator(task, validation, config, mesh), task, best, writer, wall_time)
        monitor = NonFiniteMonitor(config, task, records, step_key, steps)
        pending: list[jax.Array] = []
        peak = _peak_flops(config)
        flops = count_flops(task, config) if peak else 0.0
        since, waited = time.monotonic(), 0.0
        wall_time.spent("start")
        if lacks_validation:
            validate(state, start)
            since = time.monotonic()
        profiled = config.training.profile
        name, hidden = f"train {config.task}", not is_first_process
        bar = tqdm(range(start, steps), name, initial=start, total=steps, unit="step", disable=hidden)
        progress = stack.enter_context(bar)
        arrays, done = {}, start
        for step in progress:
            if profiled and step + 1 == max(profiled[0], start + 1) <= profiled[1]:
                jax.profiler.start_trace(str(writer.folder / "profile"))
            # Dispatch one step ahead, so devices never idle, but no further: queued batches would fill their memory.
            asked = time.monotonic()
            last, arrays = arrays, next(batches)
            batch = shard_batch({name: array for name, array in arrays.items() if name != "index"}, mesh)
            is_idle = not pending or pending[-1].is_ready()
            if is_idle:
                waited += time.monotonic() - asked
            wall_time.spent("input" if is_idle else "step")
            state, terms = step_of_run(length, state, frozen, batch, step_key)
            if step == start:
                signals.can_save()
                wall_time.spent("compile")
            if pending:
                monitor(step, dict(zip(names, jax.device_get(pending[-1]), strict=True)), last, state)
            if profiled and profiled[0] <= step + 1 == min(profiled[1], steps):
                jax.block_until_ready(terms)
                jax.profiler.stop_trace()
                writer.flush()
            terms.copy_to_host_async()
            pending.append(terms)
            done = step + 1
            saves, validates = (done % every == 0 or done == steps for every in (checkpoint_every, validate_every))
            saves |= done in kept_steps
            logs = saves or validates or done % config.training.log_every == 0
            is_terminated = must_stop(done)
            # Clocks differ between processes: they agree, but not after each step.
            is_over = logs and end < math.inf and multihost_utils.broadcast_one_to_all(time.monotonic() > end)
            stops = (is_terminated or is_over) and done < steps
            saves |= stops
            if logs or stops:
                rows = [dict(zip(names, row, strict=True)) for row in jax.device_get(pending)]
                monitor(done, rows[-1], arrays, state)
                means = _means(rows)
                if config.training.not_finite == "skip":
                    means["skipped_batches"] = monitor.skipped
                    monitor.skipped = 0
                seconds = time.monotonic() - since
                rate = len(pending) * config.input.batch_size / seconds
                speed = {"pictures_per_second": rate, "images_per_second_per_device": rate / mesh.size}
                if peak:
                    speed["flop_utilization"] = flops * rate / config.input.batch_size / (mesh.size * peak)
                writer.write(done, "train", {**means, **speed, "input_wait": waited / seconds})
                progress.set_postfix_str(f"{means.get(task.loss, math.nan):.3g}")
                pending = []
                wall_time.spent("step")
            # The terms of the last step are of the state before it.
            if (saves or validates) and not is_finite(state):
                raise UserError(f"after step {done} the state of the run is not finite; {ADVICE}")
            if saves:
                checkpoints.save_state(saved, state, config, batches)
                wall_time.spent("checkpoint")
            if logs or stops:
                writer.write_json("wall_time.json", wall_time.as_json(done))
            stopped = (
                f"SIGTERM or SIGUSR1 came; the checkpoint of step {done} of {steps} is saved: start again to go on from there"
            )
            if stops:
                saved.wait_until_finished()
                if is_over and not is_terminated:
                    raise Unfinished(
                        f"{config.training.minutes:g} minutes (training.minutes) are over; the checkpoint of step {done} of "
                        f"{steps} is saved: start again to go on from there"
                    )
                raise Unfinished(stopped)
            if validates:
                ends_at_once = contextlib.nullcontext()
                if saves:
                    saved.wait_until_finished()
                    if jax.process_count() == 1:  # Several stop together, after the next step.
                        ends_at_once = signals.nothing_to_save(stopped)
                with ends_at_once:
                    validate(state, done)
            if not pending:
                since, waited = time.monotonic(), 0.0
        saved.wait_until_finished()
        wall_time.spent("checkpoint")
        writer.write_json("wall_time.json", wall_time.as_json(done))
    return state


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
    is_better = known is None or scores[task.criterion] < known[task.criterion]
    if multihost_utils.broadcast_one_to_all(is_better):  # All processes save, or none.
        checkpoints.save_best(best, step, task.results(state), scores)
        best.wait_until_finished()
    writer.write(step, "validation", scores)
    wall_time.spent("validation")
    writer.write_json("wall_time.json", wall_time.as_json(step))


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


def _compiled_step(
    task: Task, config: ConfigDict, mesh: Mesh, shardings: TrainState, names: list[str]
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """The jitted training step, whose terms are one array; their names are put into `names` when it is compiled.

    Fetched one by one, the terms of many steps would be thousands of transfers.
    """

    def packed_step(*arguments: Any) -> tuple[TrainState, jax.Array]:
        state, terms = train_step(task, config, *arguments, mesh=mesh)
        names[:] = terms
        return state, jnp.stack(list(terms.values()))

    return jax.jit(packed_step, donate_argnums=1, out_shardings=(shardings, replicated(mesh)))


def begun_with(task: Task, state: TrainState, variables: Variables) -> TrainState:
    """A state before the first step, with these variables of the network whose results count."""
    batch_stats = variables.get("batch_stats", {})
    state = state.replace(params={**state.params, task.network: variables["params"]}, batch_stats=batch_stats)
    return state.replace(ema=task.variables(state.params, batch_stats) if state.ema else {})


def _peak_flops(config: ConfigDict) -> float | None:
    """FLOP/s that one device could do; None if that is not known."""
    chip = chip_of(jax.devices()[0].device_kind)
    return config.training.peak_tflops * 1e12 or (chip and chip.peak(config.training.compute))


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
