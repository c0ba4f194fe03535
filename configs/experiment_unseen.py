"""The faces of configs/experiment.py in masks unlike those trained on: gaiters, bandanas, prints; and N95, worn otherwise.

maskgan build --config=configs/experiment.py --source=folder=DIR --data_dir=DATA --keep_faces=faces.jsonl
maskgan build --config=configs/experiment_unseen.py --source=folder=DIR --data_dir=UNSEEN --faces=faces.jsonl
python tools/draw_templates.py TEMPLATES
maskgan build --config=configs/experiment_unseen.py --source=folder=DIR --data_dir=TEMPLATED --faces=faces.jsonl \
    --config.data.masks='{"template": 1.0, "n95": 0.0, "cloth": 0.0, "gaiter": 0.0, "bandana": 0.0}' \
    --config.data.mask_templates=TEMPLATES --config.data.mask_fit=homography
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import _mask_sets, experiment


def get_config() -> ConfigDict:
    """What is tested on."""
    config = experiment.get_config()
    config.data.update(_mask_sets.UNSEEN)
    return config
