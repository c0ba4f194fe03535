"""The network of `maskgan unmask --fast` and of videos: an inpainting network at 128 px. MODEL_CARD.md tells of it.

maskgan build --config=configs/fast_model.py --source=folder=DIR --data_dir=DATA
maskgan train --config=configs/default_landmarks.py --data_dir=DATA --workdir=LANDMARKS
maskgan train --config=configs/fast_model.py --data_dir=DATA --workdir=RUN --config.landmark_net.weights=LANDMARKS
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import cpu, default


def get_config() -> ConfigDict:
    """`configs/cpu.py` with a generator that is told the region and draws nothing else."""
    config = cpu.get_config()
    # Nearly all that drawn masks cover lies in this square.
    config.data.zoom = 4 / 3
    config.data.splits = default.splits(train={"*": 0.86}, validation={"*": 0.02}, test={"*": 0.12})
    config.input.grow_region = 4
    # In photos the landmark network aligns faces, less exactly than dlib aligned those of the data.
    config.input.misalignment = 0.03
    config.generator.inpaints = True
    config.generator.norm = "batch"
    config.generator.upsampling = "nearest"
    # At this width and length little is learnt by heart.
    config.generator.dropout = 0.0
    config.losses.adversarial = 0.5
    config.losses.feature_matching = 10.0
    config.optimizer.ema = 0.998
    # About four hours of CPU time on two cores.
    config.training.epochs = 18.0
    return config
