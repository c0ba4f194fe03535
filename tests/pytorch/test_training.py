import jax
import numpy as np
import pytest

from maskgan_jax.networks.face_network import FaceNetwork
from maskgan_jax.networks.safetensors import load_safetensors
from maskgan_jax.training.gan import GAN

torch = pytest.importorskip("torch")

from maskgan_jax.pytorch import convert, networks, training  # noqa: E402


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    real, masked = rng.integers(0, 256, (2, 2, 64, 64, 3), np.uint8)
    mask = np.where(rng.random((2, 64, 64, 1)) < 0.3, np.uint8(255), np.uint8(0))
    return {"real": real, "masked": masked, "mask": mask, "landmarks": rng.uniform(0, 64, (2, 68, 2)).astype(np.float32)}


@pytest.fixture(scope="module")
def proposed(make_config, landmark_file):
    config = make_config()
    config.generator.dropout = 0.0
    config.losses.contour = 0.3
    config.losses.adversarial = 2.0
    config.landmark_net.weights = str(landmark_file)
    return config


@pytest.fixture(scope="module")
def ours(proposed, batch):
    """Parameters, and for them what our task makes of the batch: gradients and terms."""
    task = GAN(proposed)
    params, batch_stats = jax.jit(task.init)(jax.random.key(0))
    # At the start nearly nothing comes out of the networks.
    params = jax.tree.map(lambda array: 3 * array, params)
    gradients, _, terms = jax.jit(task.gradients)(params, batch_stats, task.frozen, batch, jax.random.key(1))
    return params, gradients, terms


def load(network, state):
    network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=True)
    return network


@pytest.fixture
def theirs(proposed, ours):
    """The networks in PyTorch with those parameters: generator, discriminator, landmark network."""
    params = ours[0]
    landmark_variables = load_safetensors(proposed.landmark_net.weights)
    return (
        load(networks.create_generator(proposed), convert.generator_to_pytorch({"params": params["generator"]})),
        load(networks.create_discriminator(proposed), convert.discriminator_to_pytorch({"params": params["discriminator"]})),
        load(networks.create_landmark_net(proposed), convert.twin_to_pytorch(landmark_variables, proposed.data.size)).eval(),
    )


@pytest.mark.parametrize("channels_last", [False, True])
def test_terms_and_gradients_are_ours(proposed, batch, ours, theirs, channels_last):
    _, gradients, terms = ours
    generator, discriminator, landmark_net = theirs
    step = training.create_gradients(proposed, *theirs, channels_last=channels_last)
    logged, generator_gradient, discriminator_gradient = step({name: torch.from_numpy(array) for name, array in batch.items()})
    assert set(logged) == {"adversarial", "l1", "contour", "masked", "generator", "discriminator"}
    for name, value in logged.items():
        assert float(value) == pytest.approx(float(terms[name]), rel=1e-4), name
    for network, theirs_, expected in (
        (generator, generator_gradient, convert.generator_to_pytorch({"params": gradients["generator"]})),
        (discriminator, discriminator_gradient, convert.discriminator_to_pytorch({"params": gradients["discriminator"]})),
    ):
        for (name, _), gradient in zip(network.named_parameters(), theirs_, strict=True):
            scale = np.abs(expected[name]).max()
            np.testing.assert_allclose(gradient.numpy(), expected[name], atol=1e-3 * scale + 1e-7, err_msg=name)


def test_step_is_adams(proposed, batch, theirs):
    generator, discriminator, landmark_net = theirs
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
    gradients = training.create_gradients(proposed, *theirs)(tensors)[1]
    terms = training.create_train_step(proposed, *theirs)(batch)
    assert all(np.isfinite(float(value)) for value in terms.values())
    rate = proposed.optimizer.learning_rate
    for (name, after), gradient in zip(generator.named_parameters(), gradients, strict=True):
        # The first step of Adam is the rate, against the sign of the gradient.
        clear = gradient.abs() > 1e-5
        expected = (before[name] - rate * gradient.sign())[clear]
        np.testing.assert_allclose(after.detach()[clear].numpy(), expected.numpy(), atol=2e-3 * rate)


def test_landmark_network_stays_as_it_is(proposed, batch, theirs):
    before = {name: value.clone() for name, value in theirs[2].state_dict().items()}
    training.create_train_step(proposed, *theirs)(batch)
    for name, value in theirs[2].state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("channels_last", [False, True])
def test_inference_is_ours(generator_file, generator_variables, config, batch, channels_last):
    generator = load(networks.create_generator(config), convert.generator_to_pytorch(generator_variables))
    theirs = training.to_levels(training.create_inference(config, generator, channels_last=channels_last)(batch["masked"]))
    # The last digit may decide how a pixel is rounded.
    assert np.abs(FaceNetwork(generator_file, "unmask", 2)(batch["masked"]).astype(int) - theirs.numpy()).max() <= 1


def test_dropout_acts_where_ours_does(make_config):
    config = make_config()
    config.data.size = 128
    generator = networks.create_generator(config)
    sides = []
    for module in generator.modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(lambda _, inputs, __: sides.append(inputs[0].shape[-1]))
    generator(torch.zeros(1, 3, 128, 128))
    assert sides == [4, 8, 16]


def test_bfloat16(make_config, batch):
    config = make_config()
    config.training.compute = "bfloat16"
    pair = networks.create_generator(config), networks.create_discriminator(config)
    terms = training.create_train_step(config, *pair)(batch)
    assert all(value.dtype == torch.float32 and np.isfinite(float(value)) for value in terms.values())
