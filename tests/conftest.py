"""What many tests share: a small config, a small data set and small networks, each made once."""

import os
import tempfile

# Tests, and the processes they start, compile the same small programs again and again. Set before JAX is imported.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"maskgan-tests-jax-{os.getuid()}"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from maskgan_jax.configs.default import get_config, splits
from maskgan_jax.data.build import build_data_set
from maskgan_jax.export.safetensors import save_safetensors
from maskgan_jax.models.landmark_net import create_landmark_net
from maskgan_jax.models.unet import create_generator
from maskgan_jax.training.state import Variables

SIDE = 64


def make_config() -> ConfigDict:
    config = get_config()
    config.data.size = SIDE
    config.data.splits = splits(train={"*": 16}, validation={"*": 4}, test={"*": 4})
    config.input.batch_size = 4
    config.input.threads = 1
    config.input.prefetch = 4
    config.generator.width = 4
    config.discriminator.width = 4
    config.landmark_net.width = 4
    config.losses.contour = 0.0
    config.training.log_every = 1
    config.training.pictures = 4
    return config


@pytest.fixture
def config() -> ConfigDict:
    """64 px, width 4, batches of 4, no C1."""
    return make_config()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """A data set of rendered faces at 64 px: 16 to train on, 4 for validation, 4 for testing."""
    folder = tmp_path_factory.mktemp("data")
    build_data_set(["rendered=24"], make_config(), folder, workers=1)
    return folder


@pytest.fixture(scope="session")
def generator_variables() -> Variables:
    """An untrained generator for `config`, its outputs enlarged so that pictures differ visibly."""
    picture = jnp.zeros((1, SIDE, SIDE, 3))
    variables = jax.device_get(jax.jit(create_generator(make_config()).init)(jax.random.key(1), picture))
    variables["params"]["up_0"]["kernel"] *= 20
    return variables


@pytest.fixture(scope="session")
def generator_file(tmp_path_factory, generator_variables) -> Path:
    """That generator, exported."""
    path = tmp_path_factory.mktemp("generator") / "generator.safetensors"
    save_safetensors(path, generator_variables, make_config())
    return path


@pytest.fixture(scope="session")
def landmark_file(tmp_path_factory) -> Path:
    """An untrained landmark network for `config`, exported."""
    config = make_config()
    config.task = "landmarks"
    variables = jax.jit(create_landmark_net(config).init)(jax.random.key(2), jnp.zeros((1, SIDE, SIDE, 3)))
    path = tmp_path_factory.mktemp("landmarks") / "landmarks.safetensors"
    save_safetensors(path, jax.device_get(variables), config)
    return path
