import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.networks.description import KINDS
from maskgan_jax.training.gan import GAN
from maskgan_jax.training.landmark_regression import LandmarkRegression
from maskgan_jax.training.segmentation import Segmentation
from maskgan_jax.training.tasks import TASKS, create_task


def test_every_kind_of_network_has_its_task(config):
    assert TASKS == {"unmask": GAN, "landmarks": LandmarkRegression, "segmentation": Segmentation}
    assert TASKS.keys() == KINDS.keys()
    assert type(create_task(config)) is TASKS[config.task]


def test_a_task_that_there_is_not(config):
    config.task = "unmaks"
    with pytest.raises(UserError, match="there is no task 'unmaks'; choose one of"):
        create_task(config)
