"""The network that finds the mask on a face, for `maskgan unmask`: from drawn masks, on faces that are badly aligned too.

maskgan build --config=configs/default_segmentation.py --source=folder=DIR --data_dir=DATA
maskgan train --config=configs/default_segmentation.py --data_dir=DATA --workdir=SEGMENTATION
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import fast_model


def get_config() -> ConfigDict:
    """The data of `configs/fast_model.py` for segmentation instead of a GAN."""
    config = fast_model.get_config()
    config.task = "segmentation"
    # Wider than the generator's squares, so that the whole of a face mask is seen on turned faces too.
    config.data.zoom = 1.2
    config.segmentation_net.width = 24
    config.input.batch_size = 32
    config.input.grow_region = 0
    config.input.misalignment = 0.08
    # What is in front of a mask is not the mask's.
    config.input.occlude = 0.4
    config.input.degrade = 0.3
    config.optimizer.learning_rate = 2e-3
    config.optimizer.b1 = 0.9
    config.optimizer.ema = 0.99
    config.optimizer.constant = 0.3
    config.training.epochs = 12.0
    return config
