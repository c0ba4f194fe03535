import jax
import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.models.convolutions import compiling_for
from maskgan_jax.networks.face_network import FaceNetwork
from maskgan_jax.networks.safetensors import save_safetensors
from maskgan_jax.networks.stored import load_network


@pytest.fixture(scope="module")
def unmasker(generator_file):
    return FaceNetwork(generator_file, "unmask", batch_size=2)


@pytest.fixture(scope="module")
def faces():
    return np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)


def test_result_is_the_generators(generator_file, unmasker, faces):
    _, generator, variables, _ = load_network(generator_file, "unmask")
    with compiling_for("gpu"):  # XLA's own convolutions, with the kernels as they are.
        expected = jax.jit(generator.apply)(variables, faces / np.float32(127.5) - 1)
    difference = unmasker(faces) - np.clip((np.asarray(expected) + 1) * 127.5, 0, 255)
    assert np.abs(difference).max() < 0.6  # The results are whole numbers.


def test_a_short_batch_gives_the_same_as_a_full_one(unmasker, faces):
    both = unmasker(faces)
    assert both.shape == faces.shape
    assert both.dtype == np.uint8
    np.testing.assert_array_equal(unmasker(faces[:1]), both[:1])
    np.testing.assert_array_equal(unmasker(faces[::-1]), both[::-1])


def test_faces_of_another_size(unmasker):
    with pytest.raises(UserError, match="takes faces of 64 px, not 32 x 48"):
        unmasker(np.zeros((1, 48, 32, 3), np.uint8))


def test_no_weights(tmp_path):
    with pytest.raises(UserError):
        FaceNetwork(tmp_path / "nothing", "unmask")


def test_arithmetic_is_float32_whatever_the_training_was_in(generator_variables, make_config, tmp_path, unmasker, faces):
    config = make_config()
    config.training.compute = "bfloat16"
    save_safetensors(tmp_path / "coarse.safetensors", generator_variables, config)
    np.testing.assert_array_equal(FaceNetwork(tmp_path / "coarse.safetensors", "unmask", batch_size=2)(faces), unmasker(faces))
