import jax
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.training import abstract
from maskgan_jax.training.abstract import abstract_step, bytes_of, count_flops
from maskgan_jax.training.mesh import create_mesh
from maskgan_jax.training.tasks import TASKS, create_task


def test_flops_of_the_landmark_network(config, monkeypatch):
    """By the definition: two for each multiply-add that is not of padding; as many for each of a layer's two gradients.

    The client of the CPU counts them: that of an accelerator cannot, and without devices, the default one would be asked.
    """
    meshes = []
    monkeypatch.setattr(abstract, "create_mesh", lambda *arguments: meshes.append(create_mesh(*arguments)) or meshes[-1])
    config.task = "landmarks"
    config.landmark_net.width = width = 32
    config.input.batch_size = batch = 8
    layers, channels, side = [], 3, config.data.size
    while side > 4:
        outputs, side = min(width * 2 ** len(layers), 8 * width), side // 2
        # Of four taps an axis, with a stride of 2, the first one and the last one of the map fall on the padding.
        layers.append(2 * batch * (4 * side - 2) ** 2 * channels * outputs)
        channels = outputs
    layers += [2 * batch * 16 * channels * 8 * width, 2 * batch * 8 * width * 2 * 68]
    expected = 3 * sum(layers) - layers[0]  # Nobody needs the gradient in the image.
    counted = count_flops(TASKS["landmarks"](config), config)
    # The rest is of norms, activations, the loss and Adam.
    assert expected < counted < 1.1 * expected
    ((device,),) = [mesh.devices.flatten() for mesh in meshes]
    assert device.platform == "cpu"


def test_parts_of_a_batch_have_the_flops_of_the_whole(config):
    config.task = "landmarks"
    task = create_task(config)
    whole = count_flops(task, config)
    config.optimizer.accumulate = 2
    assert count_flops(task, config) == whole


def test_devices_without_the_cpu(config, monkeypatch):
    """As with JAX_PLATFORMS=cuda."""

    def fail(*, backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", fail)
    with pytest.raises(UserError, match="the CPU counts FLOPs, and JAX_PLATFORMS=.* leaves it out; set JAX_PLATFORMS=.*,cpu"):
        count_flops(create_task(config), config)


def test_bytes_on_one_device(config):
    config.input.batch_size = 8
    config.generator.width = 16
    task = create_task(config)
    _, (state, _, batch, _) = abstract_step(task, config, create_mesh(config, 8))
    assert bytes_of(batch) == config.data.size**2 * (3 + 3 + 1) + 68 * 2 * 4
    whole = 4 * sum(leaf.size for leaf in jax.tree.leaves(state))
    assert bytes_of(state) == whole
    config.training.fsdp = 8
    _, (state, _, _, _) = abstract_step(task, config, create_mesh(config, 8))
    # Small arrays are whole everywhere.
    assert whole / 8 < bytes_of(state) < whole / 7


def test_the_step_can_be_traced(config):
    config.training.compute = "bfloat16"
    task = create_task(config)
    step, arguments = abstract_step(task, config, create_mesh(config, 4))
    state, terms = jax.eval_shape(step, *arguments)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), arguments[0]
    )
    assert all(term.shape == () for term in terms.values())
