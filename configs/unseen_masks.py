"""The faces and splits of configs/seen_masks.py, in masks that a network trained on those has never seen.

(But for a few faces: those that one mask fits and another does not.)

maskgan build --config=configs/unseen_masks.py --source=folder=DIR --data_dir=UNSEEN
maskgan evaluate --workdir=RUN --data_dir=UNSEEN --out=unseen.json
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import _mask_sets, cpu


def get_config() -> ConfigDict:
    """What is tested on, in a test with masks unlike those trained on."""
    config = cpu.get_config()
    config.data.update(_mask_sets.UNSEEN)
    return config
