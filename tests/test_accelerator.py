"""Whether an accelerator computes what the machine's CPU does: `pytest -m accelerator`, on a machine that has one.

Elsewhere they are skipped. MASKGAN_ACCELERATOR=cpu lets the CPU stand in: networks are then small, and TF32 is float32, so that
all differences but those of bfloat16 are rounding alone, and are held to that.
"""

import functools
import os
import subprocess
import sys

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskgan_jax.config import load_config, save_config
from maskgan_jax.errors import Unfinished
from maskgan_jax.files import read_image
from maskgan_jax.models import convolutions
from maskgan_jax.networks.face_network import PRETRAINED, FaceNetwork, pretrained
from maskgan_jax.networks.run_checkpoints import read_tree
from maskgan_jax.training.abstract import count_flops
from maskgan_jax.training.gan import GAN
from maskgan_jax.training.loop import train

STANDS_IN = os.environ.get("MASKGAN_ACCELERATOR") == "cpu"
ARITHMETIC = ["float32", "tf32", "bfloat16"]
ROUNDING = 1e-5

pytestmark = [
    pytest.mark.accelerator,
    pytest.mark.skipif(
        jax.default_backend() == "cpu" and not STANDS_IN,
        reason="no accelerator; MASKGAN_ACCELERATOR=cpu lets the CPU stand in",
    ),
]


@pytest.fixture(scope="module")
def numerics(load_tool):
    return load_tool("gpu_kit/numerics")


def tolerance(arithmetic, of_accelerator):
    """That of the accelerator, or rounding where the CPU stands in and computes in float32."""
    return ROUNDING if STANDS_IN and arithmetic != "bfloat16" else of_accelerator


# Two to three times what an NVIDIA H200 differed by (docs/speed.md), for the generator and the discriminator.
GRADIENTS = {
    "pix2pix": {"float32": (0.0015, 0.002), "tf32": (0.03, 0.025), "bfloat16": (0.08, 0.07)},
    "default_model": {"float32": (0.012, 0.001), "tf32": (0.3, 0.025), "bfloat16": (0.8, 0.07)},
}
# As they were measured: with the loss in the smaller network, and without a landmark network.
SETTINGS = {
    "pix2pix": [],
    "default_model": [f"--config.losses.{s}" for s in ("contour=0.0", "perceptual_vgg=0.0", "perceptual=10.0")],
}
SMALL = [f"--config.{s}" for s in ("data.size=64", "generator.width=8", "discriminator.width=8", "generator.blocks=2")]


@pytest.fixture(scope="module")
def expected_gradients(numerics):
    """The config, and its gradients on the CPU, once for all kinds of arithmetic."""

    @functools.cache
    def compute(name):
        config = load_config(name, [*SETTINGS[name], *(SMALL if STANDS_IN else [])])
        return config, numerics.gradients_on_cpu(config)

    return compute


@pytest.mark.parametrize("arithmetic", ARITHMETIC)
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_of_a_step(name, arithmetic, numerics, expected_gradients):
    config, expected = expected_gradients(name)
    errors = numerics.errors_of_gradients(config, arithmetic, expected)
    print(name, arithmetic, errors)
    for network, most in zip(("generator", "discriminator"), GRADIENTS[name][arithmetic], strict=True):
        # Of networks that are as narrow as those for the CPU, less is averaged out.
        assert errors[network] <= tolerance(arithmetic, 2 * most if STANDS_IN else most)
        # Or another arithmetic was measured than was asked for.
        assert arithmetic != "bfloat16" or errors[network] > 1e-4


# Mean differences: of 255 levels, in pixels, of probabilities. In bfloat16 two to three times what a CPU's differs by.
INFERENCE = {
    "unmask": ("unmask", {"float32": 0.02, "tf32": 0.5, "bfloat16": 2.5}),
    "unmask_fast": ("unmask", {"float32": 0.02, "tf32": 0.5, "bfloat16": 0.25}),
    "landmarks": ("landmarks", {"float32": 0.005, "tf32": 0.1, "bfloat16": 0.02}),
    "segmentation": ("segmentation", {"float32": 1e-4, "tf32": 5e-3, "bfloat16": 1e-3}),
}


def run(name, task, compute="float32"):
    """What a network that comes with the package makes of the portrait, whose lower half is hidden."""
    network = FaceNetwork(pretrained(name), task, batch_size=1)
    if compute != "float32":  # As a run has it when it validates.
        network.module = network.module.clone(dtype=jnp.dtype(compute))
        del network.variables["prepared"]
    image = cv2.resize(read_image(PRETRAINED.parent / "data" / "portrait.jpg"), (network.size, network.size))
    mask = np.zeros((1, network.size, network.size, 1), np.uint8)
    mask[:, network.size // 2 :] = 255
    return network(image[None], mask).astype(np.float32)


@pytest.mark.parametrize("arithmetic", ARITHMETIC)
@pytest.mark.parametrize("name", INFERENCE)
def test_inference_of_the_networks_of_the_package(name, arithmetic, numerics):
    task, most = INFERENCE[name]
    with jax.default_device(jax.devices("cpu")[0]), jax.default_matmul_precision("highest"):
        expected = run(name, task)
    compute, precision = numerics.ARITHMETIC[arithmetic]
    with jax.default_matmul_precision(precision):
        found = run(name, task, compute)
    difference = np.abs(found - expected).mean()
    print(name, arithmetic, difference)
    assert np.std(expected) > 0.01 and difference <= tolerance(arithmetic, most[arithmetic])
    # Or another arithmetic was measured than was asked for.
    assert arithmetic != "bfloat16" or difference > 0.1 * most[arithmetic]


def test_a_run_that_goes_on_comes_to_the_same(config, data_dir, tmp_path, numerics):
    """Up to the order in which a GPU adds."""
    config.training.update(steps=4, validate_every=4, checkpoint_every=2)
    config.training.pictures = 1
    whole = train(config, data_dir, tmp_path / "whole")
    config.training.minutes = 1e-6
    with pytest.raises(Unfinished):
        train(config, data_dir, tmp_path / "parts")
    config.training.minutes = 0.0
    parts = train(config, data_dir, tmp_path / "parts")
    leaves = [[np.asarray(leaf) for leaf in jax.tree.leaves(jax.device_get(state.params))] for state in (parts, whole)]
    error = numerics.relative_error(*leaves)
    print(error)
    assert int(parts.step) == int(whole.step) == 4 and error <= tolerance("float32", 0.01)


TRAINS = """
import sys
from maskgan_jax.config import read_config
from maskgan_jax.training.loop import train

train(read_config(sys.argv[1]), sys.argv[2], sys.argv[3])
"""


def test_the_same_seed_gives_the_same_bytes(config, data_dir, tmp_path):
    """With the flag of docs/scaling.md; in two processes, as each chooses its kernels anew."""
    config.training.update(steps=4, validate_every=4, checkpoint_every=4, pictures=1)
    save_config(tmp_path / "config.json", config)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true"
    states = []
    for workdir in (tmp_path / "one", tmp_path / "other"):
        command = [sys.executable, "-c", TRAINS, tmp_path / "config.json", data_dir, workdir]
        subprocess.run(command, check=True, env=os.environ | {"XLA_FLAGS": flags, "JAX_ENABLE_COMPILATION_CACHE": "false"})
        states.append(read_tree(workdir / "checkpoints" / "4" / "state"))
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_flops_can_be_counted(config):
    """The client of an accelerator cannot."""
    assert count_flops(GAN(config), config) > 1e6


# Side of the small map, channels of the large one and of the small one: the first layer of pix2pix, and one further inside.
LAYERS = {"first": (128, 3, 64), "inner": (32, 128, 256)}
CONVOLUTIONS = {"float32": 1e-4, "tf32": 3e-3, "bfloat16": 2e-2}
FUNCTIONS = {
    "downsample": (lambda x, y, kernel, way: convolutions.downsample(x, kernel, way=way), ["native"]),
    "upsample": (lambda x, y, kernel, way: convolutions.upsample(y, kernel, way=way), ["native", "phases"]),
    "kernel_gradient": (lambda x, y, kernel, way: convolutions.kernel_gradient(x, y, way=way), ["native"]),
}


@pytest.mark.parametrize("arithmetic", ARITHMETIC)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("name", "way"), [(name, way) for name, (_, ways) in FUNCTIONS.items() for way in ways])
def test_formulations_of_a_convolution(name, way, layer, arithmetic, numerics):
    side, large, small = LAYERS[layer]
    if STANDS_IN:
        side //= 8
    rng = np.random.default_rng(0)
    shapes = (2, 2 * side, 2 * side, large), (2, side, side, small), (4, 4, large, small)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    function = jax.jit(FUNCTIONS[name][0], static_argnums=3)
    with jax.default_device(jax.devices("cpu")[0]), jax.default_matmul_precision("highest"):
        expected = function(*arrays, "native")
    compute, precision = numerics.ARITHMETIC[arithmetic]
    with jax.default_matmul_precision(precision):
        found = function(*(jnp.asarray(array, compute) for array in arrays), way)
    assert found.dtype == compute
    error = numerics.relative_error([np.asarray(found, np.float32)], [np.asarray(expected)])
    print(name, way, layer, arithmetic, error)
    assert error <= tolerance(arithmetic, CONVOLUTIONS[arithmetic])
