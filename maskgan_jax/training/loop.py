"""The training loop: records in; checkpoints, metrics and pictures out. Resumes by itself from its workdir."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from functools import partial, reduce
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tensorboardX import SummaryWriter
from tqdm import tqdm

from maskgan_jax.config import changed_settings, read_config, save_config
from maskgan_jax.data.masked_faces.reader import Records, load_split, readable, zoom_of
from maskgan_jax.data.pipeline import Batch, evaluation_batches, training_batches
from maskgan_jax.errors import OutOfTime, UserError
from maskgan_jax.files import write_png, write_text
from maskgan_jax.runtime.distributed import must_stop
from maskgan_jax.training import checkpoints, gan, landmark_regression, segmentation
from maskgan_jax.training.mesh import create_mesh, divide_gradients, divided, replicated, shard_batch
from maskgan_jax.training.state import Task, TrainState, Variables, mean_of
from maskgan_jax.training.step import create_state, train_step

NOT_FINITE = (
    "nothing was saved after the last checkpoint: begin again in another --workdir, with a lower optimizer.learning_rate or "
    "lower weights in losses"
)

# Settings that a run may go on with after they were changed, for what it computes does not follow from them.
MAY_CHANGE = ("training.", "input.threads", "input.prefetch", "optimizer.accumulate")

# The term of each task that the progress bar shows.
LOSSES = {"unmask": "generator", "landmarks": "landmarks", "segmentation": "segmentation"}

TASKS: dict[str, Callable[[ConfigDict], Task]] = {
    "unmask": gan.create_task,
    "landmarks": landmark_regression.create_task,
    "segmentation": segmentation.create_task,
}


def train(config: ConfigDict, data_dir: str | Path, workdir: str | Path) -> TrainState:
    """Trains what `config.task` names, from the latest checkpoint in `workdir` if there is one, and gives the last state.

    The workdir gets `config.json`, `checkpoints/`, `best/`, `metrics.jsonl`, `events.*` (TensorBoard) and `pictures/`. A run
    that goes on may change what `MAY_CHANGE` names (its length, intervals, pictures, speed) and no others. It may go on with
    other devices and another number of processes, each of which calls this, after `distributed.join`.

    Beside the terms of the loss, `pictures_per_second` and `input_wait` are logged. The latter is the share of the time, from 0
    to 1, that the loop waited for records while the devices had nothing left to do; that it waits while they compute costs
    nothing. If they finish within one wait, all of it counts.

    Raises:
      UserError: something is wrong with the config, the data or the workdir, a term of the loss or the state stopped being
        finite, or SIGTERM ended the run early.
    """
    workdir = Path(workdir)
    if config.task not in TASKS:
        raise UserError(f"there is no task {config.task!r}; choose one of {', '.join(TASKS)}")
    records = load_split(data_dir, "train")
    try:
        validation = load_split(data_dir, "validation")
    except UserError as error:
        raise UserError(f"{error} (training needs this split: data.splits must give it a share)") from error
    _check_records(records, config, data_dir)
    _check_same_records(len(records), len(validation))
    # Before the workdir is made: the config may name weights that are not there.
    mesh = create_mesh(config)
    task = divide_gradients(TASKS[config.task](config), mesh)
    with checkpoints.locked(workdir):
        _check_settings(config, workdir)
        return _run(config, task, mesh, records, validation, workdir)


def _run(config: ConfigDict, task: Task, mesh: Mesh, records: Records, validation: Records, workdir: Path) -> TrainState:
    end = time.monotonic() + 60 * config.training.minutes if config.training.minutes else math.inf
    steps_per_epoch = max(1, len(records) // config.input.batch_size)
    steps = config.training.steps or math.ceil(config.training.epochs * steps_per_epoch)
    validate_every = config.training.validate_every or steps_per_epoch
    checkpoint_every = config.training.checkpoint_every or steps_per_epoch

    first = jax.process_index() == 0
    frozen = jax.device_put(task.frozen, replicated(mesh))
    keys = jax.jit(lambda seed: tuple(jax.random.split(jax.random.key(seed))), out_shardings=replicated(mesh))
    init_key, step_key = keys(np.uint32(config.seed))
    create = partial(create_state, task, config, steps)
    shardings = divided(mesh, jax.eval_shape(create, init_key))
    # Parameters are born where they will live.
    state = jax.jit(create, out_shardings=shardings)(init_key)
    names: list[str] = []

    def packed_step(*arguments: Any) -> tuple[TrainState, jax.Array]:
        # Fetched one by one, the terms of many steps are thousands of transfers: those of a step leave the device as one.
        state, terms = train_step(task, config, *arguments)
        names[:] = terms
        return state, jnp.stack(list(terms.values()))

    step_of_run = jax.jit(packed_step, donate_argnums=1, out_shardings=(shardings, replicated(mesh)))
    length = jax.device_put(np.float32(steps), replicated(mesh))
    is_finite = jax.jit(
        lambda state: jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state)])),
        out_shardings=replicated(mesh),
    )
    batches = training_batches(records, config, process_index=jax.process_index(), process_count=jax.process_count())

    with checkpoints.open_checkpoints(workdir, config.training.keep) as latest, checkpoints.open_best(workdir) as best:
        if latest.latest_step() is not None:
            state = checkpoints.restore_state(latest, state, batches)
        start = int(state.step)
        if start >= steps:
            if first:
                print(f"the run in {workdir} is complete: it has done {start} steps of {steps}")
            return state
        _write_config(config, workdir)
        writer = MetricsFiles(workdir, start)
        validator = _validator(task, validation, config, mesh)
        pending: list[jax.Array] = []
        since, waited = time.monotonic(), 0.0
        progress = tqdm(
            range(start, steps), initial=start, total=steps, unit="step", desc=f"train {config.task}", disable=not first
        )
        for step in progress:
            # The devices are at the last step still. They get the next one before they finish, but none after that: more would
            # fill their memory with batches.
            asked = time.monotonic()
            batch = shard_batch(next(batches), mesh)
            if not pending or pending[-1].is_ready():
                waited += time.monotonic() - asked
            state, terms = step_of_run(length, state, frozen, batch, step_key)
            if pending:
                jax.block_until_ready(pending[-1])
            terms.copy_to_host_async()
            pending.append(terms)
            done = step + 1
            saves, validates = (done % every == 0 or done == steps for every in (checkpoint_every, validate_every))
            logs = saves or validates or done % config.training.log_every == 0
            is_terminated = must_stop(done)
            # Clocks differ between processes: they agree, but not after each step.
            is_over = logs and end < math.inf and multihost_utils.broadcast_one_to_all(time.monotonic() > end)
            stops = (is_terminated or is_over) and done < steps
            saves |= stops
            if logs or stops:
                means = _mean_of_finite([dict(zip(names, row, strict=True)) for row in jax.device_get(pending)], done)
                seconds = time.monotonic() - since
                rate = len(pending) * config.input.batch_size / seconds
                writer.write(done, "train", {**means, "pictures_per_second": rate, "input_wait": waited / seconds})
                progress.set_postfix_str(f"{means[LOSSES[config.task]]:.3g}")
                pending = []
            # The terms of the last step are of the state before it.
            if (saves or validates) and not is_finite(state):
                raise UserError(f"after step {done} the state of the run is not finite; {NOT_FINITE}")
            if validates:
                scores = validator(task.results(state), done, writer)
                known = checkpoints.best_scores(best)
                is_better = known is None or scores[task.criterion] < known[task.criterion]
                if multihost_utils.broadcast_one_to_all(is_better):  # All processes save, or none.
                    checkpoints.save_best(best, done, task.results(state), scores)
            if saves:
                best.wait_until_finished()  # Or a run killed now would go on from here without its best network.
                checkpoints.save_state(latest, state, config, batches)
            if stops:
                latest.wait_until_finished()
                if is_over and not is_terminated:
                    raise OutOfTime(
                        f"{config.training.minutes:g} minutes (training.minutes) are over; the checkpoint of step {done} of "
                        f"{steps} is saved: start again to go on from there"
                    )
                raise UserError(f"SIGTERM came; the checkpoint of step {done} is saved: start again to go on from there")
            if not pending:
                since, waited = time.monotonic(), 0.0
        latest.wait_until_finished()
        best.wait_until_finished()
        writer.close()
    return state


def _check_records(records: Records, config: ConfigDict, data_dir: str | Path) -> None:
    if len(records) < config.input.batch_size:
        raise UserError(f"{data_dir} has {len(records)} training records, fewer than a batch of {config.input.batch_size}")
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


def _check_settings(config: ConfigDict, workdir: Path) -> None:
    """Raises UserError if `workdir` holds networks that were trained with settings other than those of this run."""
    saved = workdir / "config.json"
    if not saved.exists() or not any(workdir.glob("checkpoints/*")) and not any(workdir.glob("best/*")):
        return
    changes = changed_settings(read_config(saved), config)
    told = [f"{key} {old!r} (now {new!r})" for key, (old, new) in changes.items() if not key.startswith(MAY_CHANGE)]
    if told:
        raise UserError(
            f"the run in {workdir} was begun with {', '.join(told)}; go on with its settings (only training.*, input.threads, "
            "input.prefetch and optimizer.accumulate may change), or give another --workdir"
        )


def _write_config(config: ConfigDict, workdir: Path) -> None:
    """Writes `config.json`, unless it says the same already."""
    path = workdir / "config.json"
    if jax.process_index() == 0 and not (path.exists() and read_config(path).to_dict() == config.to_dict()):
        save_config(path, config)


def _mean_of_finite(steps: list[dict[str, np.ndarray]], done: int) -> dict[str, float]:
    """Means of the terms over the last steps, of which `done` is the number of the last."""
    for step, terms in enumerate(steps, start=done - len(steps) + 1):
        # All of them are named: a sum is not finite because one of its terms is not.
        if broken := [f"'{name}' became {value}" for name, value in terms.items() if not np.isfinite(value)]:
            raise UserError(f"at step {step} the term {', '.join(broken)}; {NOT_FINITE}")
    means = mean_of(*steps[0])
    return _merged(means.single_from_model_output(**terms) for terms in steps)


def _merged(collections: Iterable[metrics.Collection]) -> dict[str, float]:
    return {name: float(value) for name, value in reduce(lambda a, b: a.merge(b), collections).compute().items()}


def _validator(
    task: Task, records: Records, config: ConfigDict, mesh: Mesh
) -> Callable[[Variables, int, MetricsFiles], dict[str, float]]:
    """A function that scores variables on the validation split, writes the scores and pictures, and gives the scores."""
    validate = jax.jit(task.validate, out_shardings=replicated(mesh))
    pictures = min(config.training.pictures, len(records))
    first = jax.process_index() == 0
    shown = next(evaluation_batches(records, pictures, limit=pictures)) if first else None

    def run(variables: Variables, step: int, writer: MetricsFiles) -> dict[str, float]:
        batches: Iterable[Batch] = evaluation_batches(
            records,
            config.input.batch_size,
            limit=config.training.validation_records,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        # Gathered once, not for each batch.
        variables = jax.device_put(variables, replicated(mesh))
        scores = _merged(jax.device_get([validate(variables, shard_batch(batch, mesh)) for batch in batches]))
        writer.write(step, "validation", scores)
        if first:
            writer.draw(step, task.draw(jax.device_get(variables), shown))
        return scores

    return run


class MetricsFiles:
    """The numbers and pictures of a run: `metrics.jsonl`, TensorBoard event files, `pictures/`; written by process 0 alone."""

    def __init__(self, workdir: Path, start: int):
        """Opens the files in `workdir`, and drops what was written after step `start`: that part of the run comes again."""
        self.first = jax.process_index() == 0
        if not self.first:
            return
        self.workdir = workdir
        path = workdir / "metrics.jsonl"
        kept = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    if json.loads(line)["step"] <= start:
                        kept.append(line + "\n")
                except ValueError:  # The last line of a run that was killed while it wrote.
                    continue
        write_text(path, "".join(kept))
        self.lines = path.open("a")
        self.board = SummaryWriter(str(workdir), purge_step=start + 1)

    def write(self, step: int, phase: str, values: dict[str, float]) -> None:
        """Writes values as of `step`, under `phase` ('train' or 'validation')."""
        if not self.first:
            return
        self.lines.write(json.dumps({"step": step, "phase": phase, **values}) + "\n")
        self.lines.flush()
        for name, value in values.items():
            self.board.add_scalar(f"{phase}/{name}", value, step)

    def draw(self, step: int, picture: np.ndarray) -> None:
        """Writes a picture `[H, W, 3]` uint8 as of `step`."""
        if not self.first:
            return
        write_png(self.workdir / "pictures" / f"step_{step:08d}.png", picture)
        self.board.add_image("pictures", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Closes the files."""
        if self.first:
            self.lines.close()
            self.board.close()
