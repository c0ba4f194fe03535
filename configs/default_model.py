"""The network that `maskgan unmask` uses: an inpainting network at 256 px, for an accelerator. MODEL_CARD.md tells of it.

maskgan build --config=configs/default_model.py --source=folder=DIR --data_dir=DATA
maskgan train --config=configs/default_model.py --data_dir=DATA --workdir=RUN \
    --config.landmark_net.weights=maskgan_jax/pretrained/landmarks.safetensors
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import default


def get_config() -> ConfigDict:
    """The paper's losses, feature matching and ST-LPIPS, for a residual generator that is told the region; regions vary."""
    config = default.get_config()
    # Nearly all that drawn masks cover lies in this square.
    config.data.zoom = 4 / 3
    config.data.splits = default.splits(train={"*": 0.86}, validation={"*": 0.02}, test={"*": 0.12})
    config.input.batch_size = 32
    config.input.processes = 12
    config.input.prefetch = 512
    # In photos the landmark network aligns faces, less exactly than dlib aligned those of the data.
    config.input.misalignment = 0.03
    config.input.vary_region = 0.55
    config.input.grow_region = 8
    config.input.light = 0.15
    config.input.degrade = 0.25
    config.generator.architecture = "residual"
    config.generator.width = 32
    config.generator.norm = "batch"
    config.generator.inpaints = True
    config.losses.l1 = 50.0
    config.losses.masked = 0.001
    config.losses.adversarial = 1.0
    config.losses.feature_matching = 10.0
    config.losses.perceptual_vgg = 10.0
    # In pixels, of which there are twice as many as at 128 px.
    config.losses.contour = 0.05
    config.optimizer.learning_rate = 4e-4
    config.optimizer.ema = 0.999
    config.optimizer.constant = 0.6
    config.training.compute = "bfloat16"
    # Ten minutes on an H200.
    config.training.epochs = 13.7
    return config
