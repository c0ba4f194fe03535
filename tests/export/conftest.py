import jax
import numpy as np
import pytest

from maskgan_jax.export.safetensors import save_safetensors
from maskgan_jax.models.stored import CREATE, load_network

SIDE = 64


@pytest.fixture(scope="session", params=["unmask", "inpaint", "batch", "landmarks", "segmentation"])
def network(request, make_config, draw_variables, tmp_path_factory):
    """An untrained network of each kind: generators with instance norm, one that inpaints, one with batch norm, the others."""
    config = make_config()
    config.task = request.param if request.param in CREATE else "unmask"
    config.segmentation_net.width = 4
    if request.param == "inpaint":
        config.generator.update(inpaints=True, upsampling="nearest")
    if request.param == "batch":
        config.generator.norm = "batch"
    inputs = [np.zeros((1, SIDE, SIDE, 3), np.float32), np.zeros((1, SIDE, SIDE, 1), np.float32)]
    module = CREATE[config.task](config)
    variables = draw_variables(module, *inputs[: 1 + (request.param == "inpaint")])
    rng = np.random.default_rng(1)
    statistics = variables.get("batch_stats", {})
    variables["batch_stats"] = jax.tree.map(lambda a: a + rng.uniform(0, 0.2, a.shape).astype(np.float32), statistics)
    path = tmp_path_factory.mktemp("network") / "network.safetensors"
    save_safetensors(path, variables, config)
    return load_network(path, config.task)


@pytest.fixture(scope="session")
def inputs(network):
    """Three faces, and regions if the network asks for them."""
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(-1, 1, (3, SIDE, SIDE, 3)).astype(np.float32)]
    if network.config.task == "unmask" and network.config.generator.inpaints:
        arrays.append((rng.random((3, SIDE, SIDE, 1)) < 0.3).astype(np.float32))
    return arrays


@pytest.fixture(scope="session")
def expected(network, inputs):
    """What the network itself gives."""
    output = np.asarray(jax.jit(network.module.apply)(network.variables, *inputs))
    return 1 / (1 + np.exp(-output)) if network.config.task == "segmentation" else output


@pytest.fixture(scope="session")
def assert_close():
    """What compares the output of a format with that of the network."""

    def check(output, expected):
        assert output.dtype == np.float32 and np.std(expected) > 1e-3
        np.testing.assert_allclose(output, expected, atol=1e-4 * max(1, np.abs(expected).max()))

    return check
