import jax
import numpy as np
import pytest

from maskgan_jax.export.safetensors import save_safetensors
from maskgan_jax.models.stored import CREATE, load_network

SIDE = 64


KINDS = ["unmask", "inpaint", "batch", "residual-batch", "landmarks", "segmentation"]


@pytest.fixture(scope="session")
def make_network(make_config, draw_variables, tmp_path_factory):
    """What makes an untrained network of a kind in `KINDS`, or 'residual-' with another norm."""

    def make(kind):
        config = make_config()
        config.task = kind if kind in CREATE else "unmask"
        config.segmentation_net.width = 4
        if kind == "inpaint":
            config.generator.update(inpaints=True, upsampling="nearest")
        if kind == "batch":
            config.generator.norm = "batch"
        if kind.startswith("residual-"):
            config.generator.update(architecture="residual", blocks=2, norm=kind.partition("-")[2], inpaints=True)
        module = CREATE[config.task](config)
        variables = draw_variables(module, *draw_inputs(config, 1))
        if kind.startswith("residual-"):
            # Otherwise nearly nothing comes out of the inner layers.
            variables["params"] = jax.tree.map(keep_variance, variables["params"])
        rng = np.random.default_rng(1)
        statistics = variables.get("batch_stats", {})
        variables["batch_stats"] = jax.tree.map(lambda a: a + rng.uniform(0, 0.2, a.shape).astype(np.float32), statistics)
        path = tmp_path_factory.mktemp("network") / "network.safetensors"
        save_safetensors(path, variables, config)
        return load_network(path, config.task)

    return make


def keep_variance(array):
    """A kernel, scaled so that what comes out of its layer is about as large as what goes in."""
    return array / (array.std() * np.sqrt(np.prod(array.shape[:-1]))) if array.ndim > 1 else array


def draw_inputs(config, batch):
    """Faces, and regions if the network asks for them."""
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(-1, 1, (batch, SIDE, SIDE, 3)).astype(np.float32)]
    if config.task == "unmask" and config.generator.inpaints:
        arrays.append((rng.random((batch, SIDE, SIDE, 1)) < 0.3).astype(np.float32))
    return arrays


def run(network, inputs):
    """What the network itself gives."""
    output = np.asarray(jax.jit(network.module.apply)(network.variables, *inputs))
    return 1 / (1 + np.exp(-output)) if network.config.task == "segmentation" else output


@pytest.fixture(scope="session", params=KINDS)
def network(request, make_network):
    """A network of each kind: generators with instance norm, that inpaint, with batch norm, residual; the others."""
    return make_network(request.param)


@pytest.fixture(scope="session")
def inputs(network):
    """Three faces, and regions if the network asks for them."""
    return draw_inputs(network.config, 3)


@pytest.fixture(scope="session")
def expected(network, inputs):
    """What the network itself gives."""
    return run(network, inputs)


@pytest.fixture(scope="session", params=["instance", "none"])
def other_residual(request, make_network):
    """A residual generator with another norm than that of `network`, two faces and regions, and what it makes of them."""
    network = make_network(f"residual-{request.param}")
    inputs = draw_inputs(network.config, 2)
    return network, inputs, run(network, inputs)


@pytest.fixture(scope="session")
def assert_close():
    """What compares the output of a format with that of the network."""

    def check(output, expected):
        assert output.dtype == np.float32 and np.std(expected) > 1e-3
        np.testing.assert_allclose(output, expected, atol=1e-4 * max(1, np.abs(expected).max()))

    return check
