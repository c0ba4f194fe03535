import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.models.generators import GENERATORS, create_discriminators, create_generator
from maskgan_jax.models.residual_unet import ResidualUNet
from maskgan_jax.models.unet import UNet
from maskgan_jax.models.yi import Yi

MODULES = {"unet": UNet, "residual": ResidualUNet, "yi": Yi}


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_by_their_names(config, name):
    config.generator.update(architecture=name, inpaints=True)
    assert isinstance(create_generator(config), MODULES[name]) and create_generator(config).inpaints == (name != "yi")


def test_an_architecture_that_is_not_there(config):
    config.generator.architecture = "cathedral"
    with pytest.raises(UserError, match="generator.architecture is 'cathedral'; it must be one of unet, residual, yi"):
        create_generator(config)


@pytest.mark.parametrize("inpaints", [False, True])
def test_what_the_discriminator_is_shown(config, inpaints):
    """Beside the image: the masked one or, of a generator that inpaints, what is visible, and the mask."""
    config.generator.inpaints = inpaints
    (discriminator,) = create_discriminators(config, create_generator(config)).values()
    rng = np.random.default_rng(0)
    image, masked = rng.uniform(-1, 1, (2, 1, 8, 8, 3)).astype(np.float32)
    mask = (rng.random((1, 8, 8, 1)) < 0.5).astype(np.float32)
    condition, judged = discriminator.view(image, masked, mask)
    expected = np.concatenate([masked * (1 - mask), mask], axis=-1) if inpaints else masked
    np.testing.assert_array_equal(condition, expected)
    np.testing.assert_array_equal(judged, image)
