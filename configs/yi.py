"""The baseline "Yi" of the paper's tables (Ud Din et al. 2020). Otherwise as configs/paper.py.

maskgan train --config=configs/default_segmentation.py --config.data.size=256 --config.data.zoom=1.0 \
    --config.segmentation_net.width=16 --data_dir=DATA --workdir=MAP
maskgan train --config=configs/yi.py --data_dir=DATA --workdir=RUN --config.segmentation_net.weights=MAP
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import paper


def get_config() -> ConfigDict:
    """The paper's config with the networks and the loss of Ud Din et al.; VGG-16 of ST-LPIPS stands for VGG-19."""
    config = paper.get_config()
    config.generator.architecture = "yi"
    config.generator.width = 32
    config.losses.l1 = 100.0
    config.losses.ssim = 100.0
    config.losses.perceptual_vgg = 100.0
    # The two discriminators' own weights are in models/yi.py.
    config.losses.adversarial = 1.0
    config.losses.contour = 0.0
    config.losses.masked = 0.0
    return config
