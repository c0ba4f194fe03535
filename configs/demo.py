"""What `maskgan demo` runs: 1200 rendered faces of 64 px, small networks, minutes of training on two CPU cores.

The faces and the command are the demo's own; the loss is the paper's proposed one. configs/demo_landmarks.py goes before it.
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import default


def get_config() -> ConfigDict:
    """The proposed method, as small as it still shows something."""
    config = default.get_config()
    config.data.size = 64
    config.data.splits = default.splits(train={"*": 0.86}, validation={"*": 0.04}, test={"*": 0.1})
    config.input.batch_size = 16
    config.generator.width = 24
    config.discriminator.width = 24
    config.optimizer.learning_rate = 5e-4
    # Averaged weights draw calmer pictures; the memory is about one epoch.
    config.optimizer.ema = 0.99
    config.training.epochs = 25.0
    return config
