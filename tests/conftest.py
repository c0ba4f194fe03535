"""What many tests share: a small config, a small data set and small networks, each made once."""

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

# Tests, and the processes they start, compile many programs, some of them again and again, and run each a few times only:
# LLVM's optimisation costs more than it gains. To be set before JAX is imported.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

import flax.linen as nn
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from maskgan_jax.configs.default import get_config, splits
from maskgan_jax.data.build import build_data_set
from maskgan_jax.export.safetensors import save_safetensors
from maskgan_jax.models.landmark_net import create_landmark_net
from maskgan_jax.models.unet import create_generator
from maskgan_jax.training.state import Variables

SIDE = 64


def small_config() -> ConfigDict:
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


@pytest.fixture(scope="session")
def make_config() -> Callable[[], ConfigDict]:
    """What makes a small config of one's own: 64 px, width 4, batches of 4, no C1."""
    return small_config


@pytest.fixture
def config() -> ConfigDict:
    """A small config."""
    return small_config()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """A data set of rendered faces at 64 px: 16 to train on, 4 for validation, 4 for testing."""
    folder = tmp_path_factory.mktemp("data")
    build_data_set(["rendered=24"], small_config(), folder, workers=1)
    return folder


def random_variables(model: nn.Module, *inputs: jax.Array, spread: float = 0.06) -> Variables:
    rng = np.random.default_rng(0)

    def value(path, leaf):
        middle = 1.0 if path[-1].key in ("scale", "variance") else 0.0
        noise = 0.0 if path[-1].key in ("mean", "variance") else spread * rng.normal(size=leaf.shape)
        return np.asarray(middle + noise + np.zeros(leaf.shape), np.float32)

    return jax.tree.map_with_path(value, jax.eval_shape(model.init, jax.random.key(0), *inputs))


@pytest.fixture(scope="session")
def draw_variables() -> Callable[..., Variables]:
    """What draws variables (NumPy) for a network, three times as far spread as the initial ones; nothing is compiled for it."""
    return random_variables


@pytest.fixture(scope="session")
def generator_variables() -> Variables:
    """An untrained generator for `config`, whose results differ visibly from picture to picture."""
    return random_variables(create_generator(small_config()), np.zeros((1, SIDE, SIDE, 3), np.float32))


@pytest.fixture(scope="session")
def generator_file(tmp_path_factory, generator_variables) -> Path:
    """That generator, exported."""
    path = tmp_path_factory.mktemp("generator") / "generator.safetensors"
    save_safetensors(path, generator_variables, small_config())
    return path


@pytest.fixture(scope="session")
def landmark_file(tmp_path_factory) -> Path:
    """An untrained landmark network for `config`, exported."""
    config = small_config()
    config.task = "landmarks"
    variables = random_variables(create_landmark_net(config), np.zeros((1, SIDE, SIDE, 3), np.float32))
    path = tmp_path_factory.mktemp("landmarks") / "landmarks.safetensors"
    save_safetensors(path, variables, config)
    return path


@pytest.fixture(scope="session")
def load_tool() -> Callable[[str], ModuleType]:
    """What imports a program of `tools/` by its name."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "tools" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # Where dataclasses look for the types of their fields.
        spec.loader.exec_module(module)
        return module

    return load
