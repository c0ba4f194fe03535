"""The proposed method at the paper's size: 256 px, width 64, 300 epochs, tested on 1,400 FFHQ, 588 KDEF and 343 UTKFace faces.

maskgan build --config=configs/paper.py --source=ffhq=DIR --source=kdef=DIR --source=utkface=DIR --data_dir=DATA
maskgan train --config=configs/landmarks.py --config.data.size=256 --data_dir=DATA --workdir=LANDMARKS
maskgan train --config=configs/paper.py --data_dir=DATA --workdir=RUN --config.landmark_net.weights=LANDMARKS
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import _mask_sets, default


def get_config() -> ConfigDict:
    """The defaults, with the paper's test set.

    How its 5,600 training pairs divide among the sources, the paper does not say. KDEF has 980 front views, of which the test
    set leaves 392; all of them are taken (a share, as a count would fail if one were unusable), and the rest is divided here as
    the test set is.
    """
    config = default.get_config()
    config.data.update(_mask_sets.PAPER)
    config.data.splits = default.splits(
        train={"ffhq": 4183, "kdef": 1.0, "utkface": 1025},
        test={"ffhq": 1400, "kdef": 588, "utkface": 343},
        # Outside the paper's 7,931 pairs, to choose the best checkpoint by.
        validation={"ffhq": 200, "utkface": 50},
    )
    return config
