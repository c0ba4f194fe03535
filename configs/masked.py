"""pix2pix with C2, without C1. Otherwise as configs/paper.py."""

from ml_collections import ConfigDict

from maskgan_jax.configs import paper


def get_config() -> ConfigDict:
    """The paper's config without C1."""
    config = paper.get_config()
    config.losses.contour = 0.0
    return config
