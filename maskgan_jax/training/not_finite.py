"""What a run does about a batch for which a term of the loss or a gradient is not finite, and where that comes from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from maskgan_jax.data.masked_faces.reader import Records
from maskgan_jax.errors import UserError
from maskgan_jax.images import Batch
from maskgan_jax.training.state import Task, TrainState, Tree

ADVICE = (
    "nothing was saved after the last checkpoint: begin again in another --workdir, with a lower optimizer.learning_rate or "
    "lower weights in losses"
)
# With training.not_finite='skip', so many batches in a row end the run all the same: nothing is learnt any more.
MOST_SKIPPED = 100
# Most record names in a message.
_MOST_NAMED = 5


class NonFiniteMonitor:
    """Looks at the terms of each step; ends the run, or counts the batch as skipped (`train_step` leaves the state as it was).

    Attributes:
      skipped: batches that were skipped; the caller sets it back.
    """

    def __init__(self, config: ConfigDict, task: Task, records: Records, key: jax.Array, steps: int):
        """Of a run of `steps` over the training split `records`, with its random key."""
        self._config, self._task, self._records, self._key, self._steps = config, task, records, key, steps
        self.skipped = 0
        self._in_a_row = 0

    def __call__(self, step: int, terms: dict[str, np.ndarray], batch: Batch, state: TrainState) -> None:
        """Looks at what step number `step` gave for `batch` (NumPy, with `index`).

        `state` may be one step later, by which weights hardly change: the step takes the memory of the one before it.

        Raises:
          UserError: a term or a norm is not finite, and `training.not_finite` says 'stop', or that was so 100 times in a row.
        """
        broken = _broken(terms)
        if not broken:
            self._in_a_row = 0
            return
        self.skipped += 1
        self._in_a_row += 1
        skips = self._config.training.not_finite == "skip"
        if skips and self._in_a_row < MOST_SKIPPED:
            tqdm.write(f"step {step} is skipped ({self._named(batch['index'])}): {broken}")
            return
        told = f"at step {step} {broken}{self._origin(step, batch, state)}; {ADVICE}"
        if skips:
            raise UserError(f"the last {self._in_a_row} batches were skipped; {told}")
        raise UserError(f"{told}; or use --config.training.not_finite=skip, which leaves such batches out")

    def _origin(self, step: int, batch: Batch, state: TrainState) -> str:
        if jax.process_count() > 1:  # Each process has a part of the batch.
            return ""
        numbers = batch["index"]
        arrays = {name: array for name, array in batch.items() if name != "index"}
        key = jax.random.fold_in(self._key, step - 1)
        params, batch_stats = jax.device_get((state.params, state.batch_stats))
        try:
            origin = find_origin(self._task, params, batch_stats, arrays, key, (step - 1) / self._steps)
        except jax.errors.JaxRuntimeError:  # Want of memory: the batch was for several devices, or went through in parts.
            return f" ({self._named(numbers)})"
        if origin is None:
            return f" ({self._named(numbers)}, for which all layers give finite numbers)"
        return f" (first in the layer {origin.layer}, for {self._named(numbers[origin.places])})"

    def _named(self, numbers: np.ndarray) -> str:
        names = ", ".join(repr(self._records[number]["id"]) for number in numbers[:_MOST_NAMED])
        more = f" and {len(numbers) - _MOST_NAMED} more" if len(numbers) > _MOST_NAMED else ""
        return f"record{'s' * (len(numbers) > 1)} {names}{more}"


def _broken(terms: dict[str, np.ndarray]) -> str:
    """The names of all terms that are not finite, and their values: a sum is not finite because one of its terms is not."""
    names: dict[str, list[str]] = {}
    for name, value in terms.items():
        if not np.isfinite(value):
            names.setdefault(str(value), []).append(f"'{name}'")
    return " and ".join(f"{', '.join(of_value)} became {value}" for value, of_value in names.items())


class Origin(NamedTuple):
    """The first layer, in the order of computation, whose output is not finite, and the places in the batch where it is not."""

    layer: str
    places: list[int]


def find_origin(
    task: Task, params: dict[str, Tree], batch_stats: Tree, batch: Batch, key: jax.Array, progress: float
) -> Origin | None:
    """Computes the gradients of a step once more, and looks at what each layer of every network puts out.

    Args:
      task: what is trained.
      params: of each network, before the step.
      batch_stats: before the step.
      batch: the step's records, as NumPy arrays.
      key: what the step drew its random numbers from.
      progress: the fraction of the run that was done.

    Returns:
      None if all layers give finite numbers: then it is the loss or a gradient that does not.
    """
    size = len(batch["real"])
    layers: list[str] = []
    broken: dict[int, np.ndarray] = {}

    def look(run: Callable[..., Any], arguments: tuple, keywords: dict, context: nn.module.InterceptorContext) -> Any:
        output = run(*arguments, **keywords)
        for leaf in jax.tree.leaves(output):
            if isinstance(leaf, jax.Array) and leaf.shape[:1] == (size,):
                jax.debug.callback(partial(broken.setdefault, len(layers)), ~jnp.isfinite(leaf).reshape(size, -1).all(1))
                layers.append(_name(context.module))
        return output

    inputs = {**batch, "number": np.arange(size), "progress": np.float32(progress)}
    with nn.intercept_methods(look):
        jax.block_until_ready(jax.jit(task.gradients)(params, batch_stats, task.frozen, inputs, key))
    jax.effects_barrier()
    for number, layer in enumerate(layers):
        if broken[number].any():
            return Origin(layer, np.flatnonzero(broken[number]).tolist())
    return None


def _name(module: nn.Module) -> str:
    """The class of the network and the path of the layer in it, such as `UNet/Down_3`."""
    network = module
    while isinstance(network.parent, nn.Module):
        network = network.parent
    return "/".join((type(network).__name__, *module.path))
