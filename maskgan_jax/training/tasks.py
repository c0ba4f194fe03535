"""What can be trained, by `task` of the config."""

from __future__ import annotations

from collections.abc import Callable

from ml_collections import ConfigDict

from maskgan_jax.networks.description import kind_of
from maskgan_jax.training.gan import GAN
from maskgan_jax.training.landmark_regression import LandmarkRegression
from maskgan_jax.training.segmentation import Segmentation
from maskgan_jax.training.state import Task

TASKS: dict[str, Callable[[ConfigDict], Task]] = {
    "unmask": GAN,
    "landmarks": LandmarkRegression,
    "segmentation": Segmentation,
}


def create_task(config: ConfigDict) -> Task:
    """The task that a config names. Raises UserError if there is no such task, or what it needs is missing."""
    kind_of(config.task)
    return TASKS[config.task](config)
