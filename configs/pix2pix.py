"""The paper's baseline: pix2pix alone (Isola et al. 2017), without C1 and C2. Otherwise as configs/paper.py."""

from ml_collections import ConfigDict

from maskgan_jax.configs import paper


def get_config() -> ConfigDict:
    """The paper's config with the weights of Eq. 1."""
    config = paper.get_config()
    config.losses.contour = 0.0
    config.losses.masked = 0.0
    return config
