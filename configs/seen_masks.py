"""configs/cpu.py with half of the masks; configs/unseen_masks.py has the other half.

maskgan build --config=configs/seen_masks.py --source=folder=DIR --data_dir=SEEN
maskgan train --config=configs/landmarks.py --data_dir=SEEN --workdir=LANDMARKS
maskgan train --config=configs/seen_masks.py --data_dir=SEEN --workdir=RUN --config.landmark_net.weights=LANDMARKS
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import _mask_sets, cpu


def get_config() -> ConfigDict:
    """What is trained on, in a test with masks unlike those trained on."""
    config = cpu.get_config()
    config.data.update(_mask_sets.SEEN)
    return config
