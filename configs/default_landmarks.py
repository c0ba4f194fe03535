"""The landmark network of the default model: C1 looks through it, and `maskgan unmask` aligns masked faces by it.

maskgan train --config=configs/default_landmarks.py --data_dir=DATA --workdir=LANDMARKS
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import default_model, landmarks


def get_config() -> ConfigDict:
    """`configs/landmarks.py` on the default model's data, on faces as badly aligned as a detector's points leave them."""
    config = landmarks.get_config()
    config.data = default_model.get_config().data
    config.input.misalignment = 0.08
    config.training.epochs = 8.0
    return config
