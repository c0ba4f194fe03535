"""Scoring the network whose results count on the validation split, while it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce

import jax
from clu import metrics
from jax.sharding import Mesh
from ml_collections import ConfigDict

from maskgan_jax.data.masked_faces.reader import Records
from maskgan_jax.data.pipeline import evaluation_batches
from maskgan_jax.networks.description import Variables
from maskgan_jax.training.mesh import replicated, shard_batch
from maskgan_jax.training.metrics_files import MetricsFiles
from maskgan_jax.training.state import Task


def merged(collections: Iterable[metrics.Collection]) -> dict[str, float]:
    """The values of the metrics of several batches together, by name."""
    return {name: float(value) for name, value in reduce(lambda a, b: a.merge(b), collections).compute().items()}


def create_validator(
    task: Task, records: Records, config: ConfigDict, mesh: Mesh
) -> Callable[[Variables, int, MetricsFiles], dict[str, float]]:
    """A function that scores variables on the validation split, writes images, and gives the scores."""
    validate = jax.jit(task.validate, out_shardings=replicated(mesh))
    faces = min(config.training.pictures, len(records))
    is_first_process = jax.process_index() == 0
    shown = next(evaluation_batches(records, faces, limit=faces)) if is_first_process else None

    def run(variables: Variables, step: int, writer: MetricsFiles) -> dict[str, float]:
        batches = evaluation_batches(
            records,
            config.input.batch_size,
            limit=config.training.validation_records,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        # Gathered once, not for each batch.
        variables = jax.device_put(variables, replicated(mesh))
        scores = merged(jax.device_get([validate(variables, shard_batch(batch, mesh)) for batch in batches]))
        if is_first_process:
            writer.draw(step, task.draw(jax.device_get(variables), shown))
        return scores

    return run
