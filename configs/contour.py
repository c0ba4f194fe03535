"""pix2pix with C1, without C2. Otherwise as configs/paper.py."""

from ml_collections import ConfigDict

from maskgan_jax.configs import paper


def get_config() -> ConfigDict:
    """The paper's config without C2."""
    config = paper.get_config()
    config.losses.masked = 0.0
    return config
