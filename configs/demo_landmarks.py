"""The landmark network of `maskgan demo`, for the contour loss in configs/demo.py."""

from ml_collections import ConfigDict

from maskgan_jax.configs import demo


def get_config() -> ConfigDict:
    """The demo's faces, for regression instead of a GAN."""
    config = demo.get_config()
    config.task = "landmarks"
    config.input.batch_size = 32
    config.landmark_net.width = 16
    config.optimizer.learning_rate = 2e-3
    config.optimizer.b1 = 0.9
    config.optimizer.ema = 0.98
    config.optimizer.constant = 0.3
    config.training.epochs = 13.0
    return config
