"""The landmark network that C1 looks through, for 128 px, from dlib's landmarks on masked and unmasked faces in equal parts.

maskgan train --config=configs/landmarks.py --data_dir=DATA --workdir=LANDMARKS
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import default


def get_config() -> ConfigDict:
    """The defaults for regression instead of a GAN."""
    config = default.get_config()
    config.task = "landmarks"
    config.data.size = 128
    config.input.batch_size = 32
    config.optimizer.learning_rate = 1e-3
    config.optimizer.b1 = 0.9
    config.optimizer.ema = 0.99
    config.optimizer.constant = 0.3
    config.training.epochs = 12.0
    return config
