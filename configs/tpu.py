"""The proposed method at the paper's size on 16 TPU chips: bfloat16, 16 images a chip (docs/scaling.md).

maskgan train --config=configs/landmarks.py --config.data.size=256 --data_dir=DATA --workdir=LANDMARKS
maskgan train --config=configs/tpu.py --data_dir=DATA --workdir=RUN --config.landmark_net.weights=LANDMARKS --distributed
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import paper


def get_config() -> ConfigDict:
    """The paper's settings with a batch 16 times the default one, and its learning rate scaled and warmed up for that."""
    config = paper.get_config()
    config.input.batch_size = 256
    config.input.threads = 16
    config.input.prefetch = 1024
    config.optimizer.scaling = "sqrt"
    config.optimizer.warmup = 200
    config.training.compute = "bfloat16"
    # An epoch is 21 steps, a second or two: every twenty epochs.
    config.training.validate_every = 420
    config.training.checkpoint_every = 420
    return config
