"""The landmark network of `maskgan demo`."""

from ml_collections import ConfigDict

from maskgan_jax.configs import demo


def get_config() -> ConfigDict:
    """The demo's data, for regression instead of a GAN."""
    config = demo.get_config()
    config.task = "landmarks"
    config.landmark_net.width = 16
    config.input.batch_size = 32
    config.optimizer.learning_rate = 2e-3
    config.optimizer.b1 = 0.9
    config.optimizer.ema = 0.98
    config.optimizer.constant = 0.3
    config.training.epochs = 15.0
    return config
