"""The proposed method without an accelerator: 128 px, width 32, ten epochs (75 minutes for 5,500 faces on two busy cores).

maskgan build --config=configs/cpu.py --source=folder=DIR --data_dir=DATA
maskgan train --config=configs/landmarks.py --data_dir=DATA --workdir=LANDMARKS
maskgan train --config=configs/cpu.py --data_dir=DATA --workdir=RUN --config.landmark_net.weights=LANDMARKS
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import default


def get_config() -> ConfigDict:
    """The defaults at a sixteenth of the paper's arithmetic."""
    config = default.get_config()
    config.data.size = 128
    config.input.batch_size = 16
    config.generator.width = 32
    config.discriminator.width = 32
    config.optimizer.learning_rate = 4e-4
    config.training.epochs = 10.0
    return config
