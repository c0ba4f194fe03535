"""One step of training, for any task: gradients (of a large batch, in microbatches), Adam, moving average."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from maskgan_jax.images import Batch
from maskgan_jax.training.mesh import divide_gradients
from maskgan_jax.training.state import Gradients, Task, TrainState, Tree


def learning_rate(config: ConfigDict, steps: int | jax.Array) -> optax.Schedule:
    """The learning rate by step: a linear warm-up, constant for a fraction of the `steps`, then falling linearly to 0.

    pix2pix has no warm-up. For batches larger than the one the rate was found for, it is scaled by the ratio of the batches
    (Goyal et al. 2017) or, which suits Adam better, by its square root (Malladi et al. 2022).
    """
    settings = config.optimizer
    larger = config.input.batch_size / settings.scaling_batch
    rate = settings.learning_rate * {"none": 1.0, "linear": larger, "sqrt": larger**0.5}[settings.scaling]
    constant = jnp.maximum(settings.warmup, jnp.round(settings.constant * steps))

    def schedule(count: jax.Array) -> jax.Array:
        # Not 0 at the first step: that step would be wasted.
        rising = (count + 1) / (settings.warmup + 1)
        falling = jnp.where(count <= constant, 1.0, (steps - count) / jnp.maximum(1, steps - constant))
        return rate * jnp.clip(jnp.minimum(rising, falling), 0, 1)

    return schedule


def create_optimizer(config: ConfigDict, steps: int | jax.Array, joins: float = 0.0) -> optax.GradientTransformation:
    """Adam for a run of `steps`.

    Args:
      config: `optimizer` is read.
      steps: length of the run.
      joins: the fraction of the run before which a network gets no gradients. Adam must begin there: its corrections for
        moments that begin at 0 would otherwise be over, and its first steps up to 16 times too long.
    """
    adam = optax.scale_by_adam(b1=config.optimizer.b1, b2=config.optimizer.b2)
    if joins:
        adam = optax.conditionally_transform(adam, lambda step: step / steps >= joins)
    return optax.chain(adam, optax.scale_by_learning_rate(learning_rate(config, steps)))


def create_state(task: Task, config: ConfigDict, steps: int, key: jax.Array) -> TrainState:
    """The state before the first step of a run of `steps`."""
    params, batch_stats = task.init(key)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        optimizer={
            name: create_optimizer(config, steps, task.joins.get(name, 0.0)).init(tree) for name, tree in params.items()
        },
        ema=jax.tree.map(jnp.copy, task.variables(params, batch_stats)) if config.optimizer.ema else {},
    )


def train_step(
    task: Task,
    config: ConfigDict,
    steps: int | jax.Array,
    state: TrainState,
    frozen: Tree,
    batch: Batch,
    key: jax.Array,
    mesh: Mesh | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of a run of `steps`; pure. Bind the first two arguments and jit it.

    Args:
      task: what is trained.
      config: the whole config.
      steps: length of the run, for the learning rate; as an array, another length takes no new compilation.
      state: before the step; may be donated.
      frozen: `task.frozen`.
      batch: of the global size, as `training_batches` gives it.
      key: the run's random key; what a step draws follows from it and from the step's number.
      mesh: the devices, if parameters are divided among them (`training.fsdp`).

    Returns:
      The state after the step, and by name: the terms of the loss, the norm of each network's gradient, the learning rate. If
      one of them is not finite, the state is that before the step, with the next number.
    """
    key = jax.random.fold_in(key, state.step)
    gradients, batch_stats, terms = _accumulated(
        divide_gradients(task.gradients, mesh) if mesh else task.gradients,
        config.optimizer.accumulate,
        state,
        frozen,
        batch,
        key,
        progress=state.step / steps,
    )
    terms |= {f"gradient_norm_{name}": optax.tree.norm(gradient) for name, gradient in gradients.items()}
    terms["learning_rate"] = learning_rate(config, steps)(state.step)
    params, optimizer_state = {}, {}
    for name, gradient in gradients.items():
        optimizer = create_optimizer(config, steps, task.joins.get(name, 0.0))
        before = at_step(state.optimizer[name], state.step)
        updates, optimizer_state[name] = optimizer.update(gradient, before, state.params[name])
        params[name] = optax.apply_updates(state.params[name], updates)
    # At first the average is over fewer steps, so that the initial weights are soon out of it.
    decay = jnp.minimum(config.optimizer.ema, (1 + state.step) / (10 + state.step))
    ema = {}
    if state.ema:
        now = task.variables(params, batch_stats)
        ema = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.ema, now)
    new = TrainState(state.step, params, batch_stats, optimizer_state, ema)
    # A batch whose numbers are not finite changes nothing but the step: it can be looked into, or left out.
    is_finite = jnp.isfinite(jnp.stack(list(terms.values()))).all()
    new = jax.tree.map(lambda before, after: jnp.where(is_finite, after, before), state, new)
    return new.replace(step=state.step + 1), terms


def at_step(optimizer_state: Tree, step: jax.Array) -> Tree:
    """An optimizer's state whose learning rate, and what waits until a network joins, go by the steps of the run.

    Batches that were left out changed nothing in it. Adam's own counter, of the gradients that it has seen, stays.
    """
    counters = {optax.ScaleByScheduleState: "count", optax.ConditionallyTransformState: "step"}
    return jax.tree.map(
        lambda part: part._replace(**{counters[type(part)]: step}) if type(part) in counters else part,
        optimizer_state,
        is_leaf=lambda part: type(part) in counters,
    )


def _accumulated(
    gradients_of: Gradients,
    microbatches: int,
    state: TrainState,
    frozen: Tree,
    batch: Batch,
    key: jax.Array,
    progress: jax.Array,
) -> tuple[dict[str, Tree], Tree, dict[str, jax.Array]]:
    """The gradients of a batch, computed one microbatch after the other, all of one size, and averaged.

    So are batch norm's running statistics, which each microbatch would move by itself. (In training batch norm sees one
    microbatch at a time, as it does in any program that accumulates gradients.)
    """
    numbers = jnp.arange(len(jax.tree.leaves(batch)[0]))
    if microbatches == 1:
        return gradients_of(state.params, state.batch_stats, frozen, {**batch, "number": numbers, "progress": progress}, key)

    def add(total: Tree, microbatch: tuple[Batch, jax.Array]) -> tuple[Tree, None]:
        records, number = microbatch
        records = {**records, "progress": progress}
        results = gradients_of(state.params, state.batch_stats, frozen, records, jax.random.fold_in(key, number))
        return jax.tree.map(jnp.add, total, results), None

    # Each takes every so-many-th record: of every device's records as many, so that none have to move.
    split = jax.tree.map(lambda array: array.reshape(-1, microbatches, *array.shape[1:]).swapaxes(0, 1), dict(batch))
    # Consecutive within a microbatch, and on from one to the next: tasks that treat every other record in another way go on
    # doing so.
    split["number"] = numbers.reshape(microbatches, -1)
    first = {**jax.tree.map(lambda array: array[0], split), "progress": progress}
    shapes = jax.eval_shape(gradients_of, state.params, state.batch_stats, frozen, first, key)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, _ = jax.lax.scan(add, nothing, (split, jnp.arange(microbatches)))
    return jax.tree.map(lambda x: x / microbatches, total)
