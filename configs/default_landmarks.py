"""The landmark network of the default model: C1 looks through it, and `maskgan unmask` aligns masked faces by it.

maskgan build --config=configs/fast_model.py --source=folder=DIR --data_dir=DATA
maskgan train --config=configs/default_landmarks.py --data_dir=DATA --workdir=LANDMARKS
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import fast_model, landmarks


def get_config() -> ConfigDict:
    """`configs/landmarks.py` on the data of `configs/fast_model.py`, on faces as badly aligned as a detector leaves them."""
    config = landmarks.get_config()
    config.data = fast_model.get_config().data
    config.input.misalignment = 0.08
    config.training.epochs = 8.0
    return config
